"""Run the notebooks of the course in order, time them, and turn them into a workbook."""
