"""Measurements of accuracy and consistency, and of how far the metrics and intervals hold."""
