"""Real streets: students that ship or are adapted, scored on frames that a camera took."""
