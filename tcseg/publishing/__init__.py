"""README, the cards and the report's pages: Jinja2 templates (tcseg/templates), and the numbers that they are filled with."""
