"""Frames in: which file, camera or stream a name means, its frames with their times, what was damaged, and a part of it."""
