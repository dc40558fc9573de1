"""Training: losses, recipe, learning-rate schedule, the teacher's targets, and the loop."""
