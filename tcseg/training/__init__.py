"""One step of training and the loop around it: losses, recipe, learning-rate schedule, the teacher's targets."""
