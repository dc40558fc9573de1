"""Networks by name: our students and teacher, the peers that they are compared with, and the included weights."""
