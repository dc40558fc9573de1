"""The course's notebooks: run in their order, timed, and turned into a workbook."""
