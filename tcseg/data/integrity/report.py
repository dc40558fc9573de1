"""The report about a data set, and the inventory of its files."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tcseg.data.splits import counted


@dataclass
class Report:
    """The result of checking a data set.

    Attributes:
        dataset, root: name and folder.
        counts: frames, labels, pairs and cities, one line per split.
        subset: which part of the published data set is present, one clause per split; empty if it is complete.
        notes: remarks that are not problems.
        problems: missing, damaged or duplicate files, one line each, with the file name.
        decoded: number of decoded files; None if only names and sizes were checked.
    """

    dataset: str
    root: Path
    counts: list[str] = field(default_factory=list)
    subset: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    decoded: int | None = None

    def lines(self, most: int = 20) -> list[str]:
        """The report for a terminal: summary, counts, notes, and at most `most` problems."""
        state = counted(len(self.problems), "problem") if self.problems else "" if self.subset else "complete"
        subset = f"subset: {'; '.join(self.subset)}" if self.subset else ""
        how = "only names and sizes checked" if self.decoded is None else f"{counted(self.decoded, 'file')} decoded"
        head = f"{self.dataset} ({self.root}): {', '.join(filter(None, (state, subset)))} ({how})"
        more = len(self.problems) - most
        return [
            head,
            *(f"  {line}" for line in self.counts),
            *(f"  note: {line}" for line in self.notes),
            *(f"  {line}" for line in self.problems[:most]),
            *([f"  ... and {more} more"] if more > 0 else []),
        ]


@dataclass
class Inventory:
    """The files of a data set, by their names.

    Attributes:
        pairs: (frame, label).
        instances: label -> its instanceIds file.
        clips: clip -> its frames, which must have the same size.
        labels: split -> its label maps.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    instances: dict[Path, Path] = field(default_factory=dict)
    clips: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
