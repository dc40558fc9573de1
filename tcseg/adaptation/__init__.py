"""One's own video and any teacher: who is asked (`teachers`), which frames (`frames`), and what was answered (`store`)."""
