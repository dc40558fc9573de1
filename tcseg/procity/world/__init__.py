"""Contents of a procedural city: streets, houses, vehicles, people, and their textures."""
