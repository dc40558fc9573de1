"""Networks by name: ours, the peers that they are compared with, and the weights that ship with the package."""
