"""A scene to pictures and truth: rasterising, shading, exact flow, and what a camera adds."""
