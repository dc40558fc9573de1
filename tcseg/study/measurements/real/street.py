"""Students for real streets: the shapes of `student` and `student-cpu`, adapted by `tcseg adapt` to all real frames that are here.

They learn a public network's stored answers to CamVid's train stills, two Cityscapes snippets and two highway films, and labels of
drawn streets; no label of a real frame. `tcseg measure zero_shot` scores them by truth, `publish.ship_street` puts them into the
package.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import cv2
import pandas as pd
from tqdm.auto import tqdm

from tcseg.adaptation.run import adapt
from tcseg.api import predict
from tcseg.data.folders import find_dataset
from tcseg.data.images import IMAGES
from tcseg.errors import NotFoundError
from tcseg.machine import as_finished
from tcseg.models import registry
from tcseg.study.figures.pictures import image_grid
from tcseg.study.measurements import write_figure
from tcseg.study.measurements.parts import Parts
from tcseg.video.painting import blend
from tcseg.video.reading.decoding import open_source
from tcseg.video.render import side_by_side

RATE = 17.0  # frames a second of Cityscapes' snippets
TEACHER = "ESPNetv2 s2.0 of EdgeNets, stored maps"
LICENCE = (
    "non-commercial: the teacher (ESPNetv2 of sacmehta/EdgeNets, MIT) was trained on Cityscapes, whose terms allow passing on "
    "models trained on it (clause 3) but no commercial use (clause 4); CamVid's frames are CC BY-NC 4.0"
)
QUICK = {"steps": 4, "replay": False, "size": "128x96"}
VARIED = {"light": 1.0, "mixing": 0.5, "zoom": (0.6, 2.0)}  # they must know other cameras: `tcseg measure unseen_camera`
SETTINGS: dict[str, dict] = {
    "student-street": {"arch": "student", "size": "480x352", "steps": 2400, **VARIED},
    "student-street-cpu": {"arch": "student-cpu", "size": "480x352", "steps": 5000, **VARIED},
}
"""Name -> options of `adapt`. `student` was trained at 256x128, where a real street's poles are gone."""


def measure(out: Path, quick: bool = False) -> Iterator[pd.DataFrame]:
    """Train both students, a process each; one that was interrupted goes on.

    Args:
        out: folder; gets `street/` with weights, sidecars and cards, and a figure and a film.
        quick: a few steps; no weights are left.

    Yields:
        A row a student and stage, as `tcseg.adaptation.run.COLUMNS`, on what was held out of every video; agreement, not truth.

    Raises:
        NotFoundError: the frames or the stored maps are not on this machine.
    """
    names, changes = list(SETTINGS), QUICK if quick else {}
    folder = Parts(out, "street", False, [SETTINGS, changes]).folder  # of this code and these settings
    protocol = _protocol(folder)
    tables: dict[str, pd.DataFrame] = {}
    tasks = {name: (name, folder, protocol, SETTINGS[name] | changes) for name in names}
    for name, result in tqdm(as_finished(_train, tasks), "students", len(tasks)):
        tables[name] = result
        yield pd.concat([tables[one] for one in names if one in tables])
    _show(out, folder, protocol)
    if not quick:
        _keep(folder, out / "street")
    yield pd.concat([tables[one] for one in names])


def _protocol(folder: Path) -> dict:
    """What is learned from, with a folder of links to the maps of all of it, as `maps:` reads them.

    Raises:
        NotFoundError: as `measure`.
    """
    roots = {name: find_dataset(name) for name in ("camvid", "cityscapes", "videos", "teacher_maps")}
    if lacking := [name for name, root in roots.items() if root is None]:
        raise NotFoundError(f"data/{', data/'.join(lacking)} are needed (or in $TCSEG_DATA)")
    films = sorted(path for path in roots["videos"].glob("highway_*.mp4"))
    clips = sorted(path for path in (roots["cityscapes"] / "leftImg8bit_sequence" / "train").iterdir())
    stills = roots["camvid"] / "train"
    wanted = {"videos": [one.stem for one in films], "cityscapes_sample": [one.name for one in clips], "camvid": ["train"]}
    for dataset, names in wanted.items():
        for path in (roots["teacher_maps"] / dataset).rglob("*"):
            if path.suffix in IMAGES and path.parent.name in names:
                kind = path.relative_to(roots["teacher_maps"] / dataset).parts[0]  # labels, confidence
                link = folder / "maps" / kind / path.parent.name / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):  # from a run before, or one beside this
                    link.symlink_to(path.resolve())
    return {"videos": [*films, *clips], "film": films[-1], "stills": [stills], "maps": folder / "maps"}


def _keep(folder: Path, to: Path) -> None:
    """Weights, sidecars and cards, to be shipped; a quick measurement leaves none."""
    to.mkdir(parents=True, exist_ok=True)
    for path in (folder / f"{name}{suffix}" for name in SETTINGS for suffix in (".json", ".md", ".safetensors")):
        shutil.copyfile(path, to / path.name)


def _show(out: Path, folder: Path, protocol: dict) -> None:
    """A figure and a film of the highway (MIT), before and after: the only frames here that may be passed on."""
    film = protocol["film"]
    before, after = registry.shipped(registry.FAST), registry.load_weights(folder / "student-street-cpu.safetensors")
    networks = {"trained on drawn streets": before, "adapted to real ones": after}
    opened = open_source(film)
    index = (opened.count or 1) * 19 // 20  # in the part that was held out
    (frame,) = islice(opened.frames(), index, index + 1)
    ids = cv2.imread(str(folder / "maps" / "labels" / film.stem / f"{index:06}.png"), cv2.IMREAD_UNCHANGED)
    panels = {"frame": frame, "teacher": blend(frame, ids, after.label_set)}
    panels |= {name: blend(frame, predict(one, frame), one.label_set) for name, one in networks.items()}
    alt = "A highway: the frame, the teacher's answer, and those of student-cpu and of student-street-cpu."
    write_figure(out, "street", image_grid(panels), alt)
    start = 0.9 * (opened.count or 1) / opened.fps
    moving = {"start": start, "end": start + 2, "stride": 2, "panel_width": 300, "legend": False, "progress": False}
    side_by_side(film, out / "figures" / "street.gif", networks, fps=8, **moving)


def _train(name: str, folder: Path, protocol: dict, options: dict) -> pd.DataFrame:
    """One student's rows."""
    weights, table = folder / f"{name}.safetensors", folder / f"{name}.csv"
    if not (weights.exists() and table.exists()):
        weights.unlink(missing_ok=True)
        done = adapt(
            protocol["videos"], f"maps:{protocol['maps']}", weights, classes="cityscapes", licence=LICENCE, fps=RATE,
            teacher_name=TEACHER,
            stills=protocol["stills"], held_out=0.1, work=folder / f"work-{name}", film=False, progress=False, **options,
        )  # fmt: skip
        done.table.assign(student=name).to_csv(table, index=False)
    registry.load_weights(weights)  # it is whole
    return pd.read_csv(table)
