"""What stands and moves in a procedural city: streets, houses, vehicles, people, and their textures."""
