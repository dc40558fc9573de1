"""Deployment: export, int8, the runtimes, and label maps from logits on CPU and GPU."""
