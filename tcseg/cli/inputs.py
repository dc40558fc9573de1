"""What `tcseg segment` is given: several sources and globs, and where the answers to each go."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tcseg.errors import NotFoundError

FILM, PICTURE = ".mp4", ".png"  # what is written into a folder


@dataclass(frozen=True)
class Job:
    """One source, and where the answers to it go."""

    source: str
    out: Path | None
    labels: Path | None
    probs: Path | None


def expand(sources: Sequence[str]) -> list[str]:
    """Sources with the files in the place of globs (`clips/*.mp4` in quotes, `**` too), each file once, in their natural order.

    Raises:
        NotFoundError: a glob matches nothing.
    """
    from tcseg.data.images import in_order, is_hidden

    found: dict[object, str] = {}
    for text in sources:
        some = [text]
        if re.search(r"[*?\[]", text) and "://" not in text and " ! " not in text and not Path(text).exists():
            matches = in_order(Path(one) for one in glob.glob(text, recursive=True))
            some = [str(path) for path in matches if not is_hidden(path.name)]
            if not some:
                raise NotFoundError(f"{text} matches no file; write it without quotes to see what your shell makes of it")
        for one in some:
            found.setdefault(Path(one).resolve() if Path(one).exists() else one, one)
    return list(found.values())


def plan(sources: Sequence[str], out: Path | None, labels: Path | None, probs: Path | None, shown: bool = False) -> list[Job]:
    """Where answers go: of one source into `out` itself; of several, or if `out` is a folder, into files named after them.

    Args:
        sources: as `expand` gives them.
        out: a file, or a folder: one that is there, or a name without a suffix.
        labels, probs: folders; of several sources they get a folder each.
        shown: there is another output (a window, JSON lines). Without any, a picture gets a file in the current folder.

    Raises:
        BadParameter: several sources and one file; a file that is there already would be written over.
    """
    several = len(sources) > 1
    folder = out if out is not None and (out.is_dir() or not out.suffix) else None
    if several and out is not None and folder is None:
        why = f"{out} is one file, and there are {len(sources)} sources; give a folder, such as {out.with_suffix('')}"
        raise typer.BadParameter(why, param_hint="'--out'")
    names = unique_names(sources)
    jobs = []
    for source, name in zip(sources, names, strict=True):
        suffix = PICTURE if is_picture(source) else FILM
        target = folder / f"{name}{suffix}" if folder is not None else out
        if target is None and is_picture(source) and not (labels or probs or shown):
            target = Path(f"{name}_classes{PICTURE}")
        if target is not None and target != out and target.exists():
            raise typer.BadParameter(
                f"{target} is there already; remove it, or give another folder or name", param_hint="'--out'"
            )
        own = [None if one is None else one / name if several else one for one in (labels, probs)]
        jobs.append(Job(source, target, *own))
    return jobs


def is_picture(source: str) -> bool:
    """Whether a source is one picture in a file."""
    from tcseg.data.images import IMAGES

    return Path(source).suffix.lower() in IMAGES and Path(source).is_file()


def unique_names(sources: Sequence[str]) -> list[str]:
    """A name for each source, as short as keeps them apart (in any case): `x`, else `a_x`, `x_avi`, and in the end `x-2`."""
    options = [_names_of(source) for source in sources]
    names = [own[0] for own in options]
    for level in range(1, max(map(len, options), default=1)):
        lower = [name.casefold() for name in names]
        if len(set(lower)) == len(lower):
            break
        names = [
            own[min(level, len(own) - 1)] if lower.count(name.casefold()) > 1 else name
            for name, own in zip(names, options, strict=True)
        ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 2
        while names[index].casefold() in taken:
            names[index], number = f"{name}-{number}", number + 1
        taken.add(names[index].casefold())
    return names


def _names_of(source: str) -> list[str]:
    """What a source may be called, shortest first."""
    if source.isdigit() and not Path(source).exists():
        return [f"camera{source}"]
    if "://" in source and not Path(source).exists():
        host, *parts = re.sub(r"[?#].*", "", source.split("://", 1)[1]).rstrip("/").split("/")
        plain = [re.sub(r"[^\w.-]+", "_", part) for part in (host, *parts)]
        return [Path(plain[-1]).stem or plain[-1], "_".join(plain)]
    path = Path(source)
    stem = path.name if path.is_dir() else path.stem
    above = [part for part in path.absolute().parts[1:-1] if part != ".."]
    if path.is_dir() and not stem:
        stem = path.resolve().name
    stem = stem or "stream"
    with_suffix = [f"{stem}_{path.suffix[1:]}"] if path.suffix and not path.is_dir() else []
    deeper = ["_".join([*above[-count:], name]) for count in range(1, len(above) + 1) for name in (stem, *with_suffix)]
    return [stem, *with_suffix, *deeper]
