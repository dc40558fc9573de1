"""The study of this repository: profiles, recipes, run store, sweeps, notebooks, measurements, figures, report.

Nothing outside this package and the command line imports it. A notebook starts with `from tcseg.study import open_study`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcseg.study.opening import open_rows, open_study
    from tcseg.study.study import Study

__all__ = ["Study", "open_rows", "open_study"]


def __getattr__(name: str) -> object:
    """Import what a notebook asks for when it does: the command line must start without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tcseg.study import opening

    return getattr(opening, name)
