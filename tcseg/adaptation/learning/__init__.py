"""How a student learns: what a step sees, how it is varied, and the training with its checkpoints."""
