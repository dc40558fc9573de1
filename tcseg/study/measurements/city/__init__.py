"""Measurements of the procedural city: speed, exactness, and the gap between its cities."""
