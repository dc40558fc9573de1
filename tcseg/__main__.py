"""`python -m tcseg` is `tcseg`."""

from tcseg.cli import app

app(prog_name="tcseg")
