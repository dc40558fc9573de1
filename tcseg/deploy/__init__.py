"""A trained network outside its training: export, int8, the runtimes, and logits to a label map on CPU and GPU."""
