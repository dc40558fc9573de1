"""Write procity to disk in the Cityscapes layout: parallel generation, manifest, check and repair.

`leftImg8bit_sequence/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png`, `leftImg8bit` (annotated frames only),
`gtFine` (labelIds, instanceIds, color), `camera`, and `flow` (KITTI 16-bit PNG, both directions, valid = visible).
Every file is written atomically, and `manifest.json` is written last, so a data set with a manifest is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePath

from tqdm import tqdm

from tcseg.errors import CannotWriteError, InputError, NotFoundError
from tcseg.machine import usable_cores, worker_pool
from tcseg.procity.world.style import CITIES

from .sequence import ANNOTATED, FPS, FRAMES, check_size
from .snippet_files import SPLITS, SnippetTask, record_of, small_worker, write_file, write_snippet
from .version import VERSION


def _snippets(root: Path, p: dict) -> list[SnippetTask]:
    out = []
    for split in SPLITS:
        out += [SnippetTask(str(root), split, i, tuple(p["size"]), p["neighbours"], p["seed"]) for i in range(p[split])]
    return sorted(out, key=lambda s: (s.split, s.city))  # a worker that keeps to one city paints its textures once


def disk_bytes(size: tuple[int, int], train: int, val: int, test: int, neighbours: int) -> int:
    """Estimated bytes of a tree, measured on the 256x128 set (232 MB) and rounded up."""
    pixels = size[0] * size[1]
    frame, truth, flow = pixels * 1.75 + 1_500, pixels * 0.4 + 3_000, pixels * 1.15 + 1_500
    few = min(FRAMES, 2 * neighbours + 1)
    snippet_train = (few + 1) * frame + truth + 2 * (few - 1) * flow
    return int(train * snippet_train + (val + test) * FRAMES * (frame + truth + 2 * flow))


def tree_name(size: tuple[int, int], train: int, val: int, test: int) -> str:
    """Name of a data set's folder under data/procity, where a study looks for it: "256x128-160-24-6"."""
    return f"{size[0]}x{size[1]}-{train}-{val}-{test}"


def _parameters(size: tuple[int, int], train: int, val: int, test: int, neighbours: int, seed: int) -> dict:
    """Checked parameters of a tree."""
    size = check_size(size)
    for name, value in (("train", train), ("val", val), ("test", test), ("seed", seed)):
        if int(value) != value or not 0 <= value < 8_000:
            raise InputError(f"{name} is {value}; it must be a whole number in 0..7999")
    if not 0 <= neighbours <= FRAMES - 1:
        raise InputError(f"neighbours is {neighbours}; it must be in 0..{FRAMES - 1}")
    return {"size": list(size), "train": train, "val": val, "test": test, "neighbours": neighbours, "seed": seed}


def _prepare(root: Path, p: dict) -> None:
    """Make the folder; fail before rendering when it is not writable or the disk is too small."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CannotWriteError(
            f"{root} is not a writable folder ({error.strerror}); choose another folder with --out FOLDER"
        ) from error
    need = disk_bytes(p["size"], p["train"], p["val"], p["test"], p["neighbours"])
    free = shutil.disk_usage(root).free
    if need > free:
        raise CannotWriteError(
            f"the disk of {root} has {free / 1e6:.0f} MB free, but the data set needs {need / 1e6:.0f} MB; free some space, choose "
            "another disk with --out FOLDER, or lower --size, --train, --val or --test"
        )


def _finished(root: Path, snippet: SnippetTask) -> dict[str, str] | None:
    """Hashes of a snippet that an interrupted run completed, or None."""
    try:
        hashes = json.loads(record_of(root, snippet).read_text())
    except (OSError, ValueError):
        return None
    names = {name for _, _, name in snippet.files()}
    return hashes if set(hashes) == names and all((root / name).is_file() for name in names) else None


def _run(tasks: list[SnippetTask], workers: int | None, progress: bool) -> Iterator[dict[str, str]]:
    """Write snippets in parallel processes (or here, for one worker)."""
    workers = min(workers or usable_cores(), max(1, len(tasks)))
    bar = tqdm(total=len(tasks), desc="procity", unit="snippet", disable=not (progress and sys.stderr.isatty()))
    with bar:
        if workers == 1:
            for task in tasks:
                yield write_snippet(task)
                bar.update()
            return
        # An executor, not a Pool: where a script lacks `if __name__ == "__main__":` its workers die at their start, and a Pool
        # replaces them for ever, while an executor says so.
        with worker_pool(workers, small_worker) as pool:
            for done in as_completed([pool.submit(write_snippet, task) for task in tasks]):
                yield done.result()
                bar.update()


def _manifest(root: Path) -> dict | None:
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    kinds = {"files": dict, "parameters": dict, "version": str}
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(key), kind) for key, kind in kinds.items()):
        return None
    return manifest if all(map(_is_inside, manifest["files"])) else None


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file below the data set: what a manifest lists may be removed."""
    path = PurePath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def generate(
    root: Path | str, size: tuple[int, int] = (256, 128), train: int = 160, val: int = 24, test: int = 6,
    neighbours: int = 2, seed: int = 0, workers: int | None = None, progress: bool = True,
) -> Path:  # fmt: skip
    """Generate a data set; an interrupted run is continued, and a complete data set is kept.

    A data set with the same parameters from an older version is generated again.

    Args:
        root: its folder.
        size: (W, H), multiples of 32, W = 2 H.
        train: number of snippets with the frames 19 - neighbours .. 19 + neighbours and labels for frame 19.
        val: number of snippets with 30 frames and labels and flow for all of them.
        test: as val.
        neighbours: number of frames before and after the annotated frame of a training snippet.
        seed: each seed gives a different data set.
        workers: number of processes, default one per core.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        root.

    Raises:
        ValueError: the size or a count is invalid.
        CannotWriteError: root is not writable, the disk is too small, or root contains a data set with other parameters.
    """
    root = Path(root)
    p = _parameters(size, train, val, test, neighbours, seed)
    if _is_complete(root, p):
        return root
    _prepare(root, p)
    _stamp(root, p)
    files: dict[str, str] = {}
    tasks = []
    for snippet in _snippets(root, p):
        done = _finished(root, snippet)
        if done is None:
            tasks.append(snippet)
        else:
            files |= done
    for hashes in _run(tasks, workers, progress):
        files |= hashes
    about = {"version": VERSION, "parameters": p, "fps": FPS, "annotated": ANNOTATED, "cities": CITIES}
    manifest = about | {"files": dict(sorted(files.items()))}
    write_file(root / "manifest.json", json.dumps(manifest, indent=1).encode())
    shutil.rmtree(root / ".parts", ignore_errors=True)
    return root


def _is_complete(root: Path, p: dict) -> bool:
    """Whether the data set is complete. Removes one of an older version; raises an error for one with other parameters."""
    old = _manifest(root)
    if old is None:
        return False
    if old["parameters"] != p:
        raise CannotWriteError(
            f"{root} contains a data set of procity {old['version']} with other parameters ({old['parameters']} instead of {p}); "
            "remove it, or choose another folder with --out FOLDER"
        )
    if old["version"] != VERSION:
        _discard(root, old)
    return old["version"] == VERSION


def _discard(root: Path, manifest: dict) -> None:
    """Remove the files of a tree that an older generator made; what else lies there stays."""
    (root / "manifest.json").unlink()
    for name in manifest["files"]:
        (root / name).unlink(missing_ok=True)


def _stamp(root: Path, p: dict) -> None:
    """What an unfinished tree is made of; parts of another version or other parameters are thrown away."""
    stamp = root / ".parts" / "stamp.json"
    now = json.dumps({"version": VERSION, "parameters": {k: v for k, v in p.items() if k not in SPLITS}})
    if stamp.is_file() and stamp.read_text() != now:
        shutil.rmtree(stamp.parent)
    stamp.parent.mkdir(exist_ok=True)
    write_file(stamp, now.encode())


def check(root: Path | str, progress: bool = False, quick: bool = False) -> list[str]:
    """List missing and damaged files of a data set; the list is empty if it is intact.

    Args:
        root: folder of the data set.
        progress: show a progress bar if stderr is a terminal.
        quick: check only that the files exist, not their content.
    """
    root = Path(root)
    manifest = _manifest(root)
    if manifest is None:
        fix = f"complete the data set with: tcseg data procity --out {root}"
        return [f"{root / 'manifest.json'}: the file is missing or damaged; {fix}"]
    files = manifest["files"]
    if quick:
        return [f"{name}: missing" for name in files if not (root / name).is_file()]
    with ThreadPoolExecutor(usable_cores()) as pool:  # reading and hashing leave the interpreter's lock
        results = pool.map(lambda name: _problem(root / name, files[name]), files)
        bar = tqdm(results, "sha256", len(files), unit="file", disable=not (progress and sys.stderr.isatty()))
        return [f"{name}: {problem}" for name, problem in zip(files, bar, strict=True) if problem]


def _problem(path: Path, digest: str) -> str:
    try:
        same = hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"damaged (it cannot be read: {error.strerror})"
    return "" if same else "damaged (its sha256 differs from the manifest)"


def mend(root: Path | str) -> list[str]:
    """Generate the missing or damaged files of a data set again; returns their names.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: the data set was generated by another version.
    """
    root = Path(root)
    manifest = _manifest(root)
    if manifest is None:
        raise NotFoundError(
            f"{root / 'manifest.json'} does not exist or is damaged; complete the data set with: tcseg data procity "
            f"--out {root}"
        )
    if manifest["version"] != VERSION:
        raise InputError(
            f"{root} was generated by procity {manifest['version']}, but this is {VERSION}; generate it again with: "
            "tcseg data procity"
        )
    broken = frozenset(problem.split(": ")[0] for problem in check(root))
    for snippet in _snippets(root, manifest["parameters"]):
        mine = broken & {name for _, _, name in snippet.files()}
        if mine:  # another machine's bytes may differ in the last bit: what is written is what the manifest says
            manifest["files"] |= write_snippet(snippet, mine)
    if broken:
        write_file(root / "manifest.json", json.dumps(manifest, indent=1).encode())
    return sorted(broken)
