"""What goes wrong on purpose: damaged files."""
