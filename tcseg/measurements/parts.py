"""A long measurement in parts: each is written as it is made, so that a stop, or a busy machine, costs the part that it fell into.

What belongs together is measured by one commit: parts of another one are not taken up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tcseg import artefacts
from tcseg.benchmark import NoisyMachineError
from tcseg.runs import git_state


class Parts:
    """The parts of a measurement, in `out/parts/<measurement>-<commit>/`.

    Args:
        out: folder of measurements; None keeps nothing.
        name: of the measurement.
        anyway: take a part, too, that was refused because the machine was busy while it was measured.
    """

    def __init__(self, out: Path | None, name: str, anyway: bool) -> None:
        self.folder = out / "parts" / f"{name}-{str(git_state()['sha'])[:12]}" if out else None
        self.anyway = anyway

    def part(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A part as it was made before, else made now and kept.

        Raises:
            NoisyMachineError: the machine was too busy; what was measured is kept for who wants it all the same.
        """
        if self.folder is None:
            return make()
        kept, busy = self.folder / f"{name}.csv", self.folder / f"{name}.busy.csv"
        for path in (kept, busy) if self.anyway else (kept,):
            if path.exists():
                print(f"{name}: as measured before, {path} (delete it to measure again)")
                return pd.read_csv(path)
        try:
            table = make()
        except NoisyMachineError as error:
            if error.table is None:
                raise
            artefacts.write_table(busy, error.table)
            told = f"{error}. What was measured is in {busy}; with --anyway it is taken as it is"
            raise NoisyMachineError(told, error.table) from None
        artefacts.write_table(kept, table)
        return table

    def forget(self) -> None:
        """Delete the parts: the whole is made."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
