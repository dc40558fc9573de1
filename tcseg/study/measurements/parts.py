"""A long measurement in parts: each part is saved when it is finished, so an interruption costs only the current one.

What belongs together is measured on one machine by the same code, with the same networks trained: other parts are not taken up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tcseg import atomic_files
from tcseg.bench.busy_machine import NoisyMachineError
from tcseg.machine import machine_facts
from tcseg.study.run_ids import digest


class Parts:
    """The parts of a measurement, in `out/parts/<measurement>-<what they are of>/`.

    Args:
        out: folder of measurements; None keeps nothing.
        name: of the measurement.
        anyway: take a part, too, that was measured on a busy machine, or refused because of it.
        inputs: what else the parts depend on, as which networks are trained.
    """

    def __init__(self, out: Path | None, name: str, anyway: bool, inputs: object = None) -> None:
        self.folder = out / "parts" / f"{name}-{digest([_code(), machine_facts(), inputs])}" if out else None
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
            atomic_files.write_table(busy, error.table)
            message = f"{error}. The times are in {busy}; --anyway accepts them as they are"
            raise NoisyMachineError(message, error.table) from None
        atomic_files.write_table(busy if self.anyway else kept, table)  # nobody checked that the machine was idle
        return table


def forget(out: Path, name: str) -> None:
    """Delete all parts of a measurement: its table is written."""
    for folder in (out / "parts").glob(f"{name}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _code() -> list[str]:
    """The package's sources."""
    return [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parents[2].rglob("*.py"))]
