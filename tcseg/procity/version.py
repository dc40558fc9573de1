"""Version of the generator: raised whenever a pixel of its output changes."""

VERSION = "1.0"
