"""Render a scene: rasterising, shading, exact flow, and camera effects."""
