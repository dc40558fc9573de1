"""Measurements of accuracy and consistency, and of the validity of metrics and intervals."""
