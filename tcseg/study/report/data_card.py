"""What the data card (data/README.md) says in figures, as Markdown made from the measurements: no number there is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

SIZES = ("256x128", "512x256", "1024x512")


def card_sections(folder: Path) -> dict[str, str]:
    """Section -> Markdown, for those whose tables there are.

    Args:
        folder: figures/, or a folder of measurements: with tables/procity.csv, procity_classes.csv, transfer.csv.
    """
    makers = {"facts": facts, "classes": classes, "exactness": exactness, "cities": cities, "transfer": transfer}
    needs = {"classes": "procity_classes", "transfer": "transfer"}
    sections = {}
    for section, make in makers.items():
        path = folder / "tables" / f"{needs.get(section, 'procity')}.csv"
        if path.exists():
            sections[section] = make(pd.read_csv(path)).strip()
    return sections


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _values(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["name"], table["value"].astype(float), strict=True))


def facts(table: pd.DataFrame) -> str:
    """What making it costs: the laptop set, and a frame at three sizes."""
    value = _values(table)
    rows = {
        "CPU ms a frame, with labels and both flows": "cpu_ms_per_frame",
        "of these: visibility": "cpu_ms_raster",
        "colour": "cpu_ms_shading",
        "flow": "cpu_ms_flow",
        "camera effects": "cpu_ms_effects",
        "writing its files, ms more": "cpu_ms_writing",
        "peak memory of a worker, MB": "peak_memory_mb",
    }
    costs = pd.DataFrame(
        {
            "one thread": list(rows),
            **{size: [f"{value[f'{name}_{size}']:.0f}" for name in rows.values()] for size in SIZES},
        }
    )
    return (
        f"The laptop profile's set is {value['laptop_dataset_mb']:.0f} MB in {value['laptop_dataset_files']:.0f} files, made in "
        f"{value['seconds_laptop_dataset_2_cores']:.0f} s on two cores ({value['cpu_seconds_laptop_dataset']:.0f} CPU seconds). "
        f"Building a scene takes {value['cpu_ms_scene_per_snippet_256x128']:.0f} ms a snippet, painting a city's textures "
        f"{value['cpu_ms_textures_per_snippet_256x128']:.0f} ms; the very first frame on a machine waits "
        f"{value['seconds_first_frame_compiling']:.0f} s for numba's compiler, once.\n\n{_markdown(costs)}"
    )


def classes(table: pd.DataFrame) -> str:
    """Class shares in percent."""
    shown = pd.DataFrame({"class": table["class"]})
    for split in ("train", "val", "test"):
        shown[split] = [f"{100 * share:.2f}" for share in table[split]]
    shown["val clips %"] = [f"{100 * share:.0f}" for share in table["val_clips"]]
    shown["Cityscapes"] = [f"{100 * share:.3g}" for share in table["cityscapes"]]
    return _markdown(shown)


def exactness(table: pd.DataFrame) -> str:
    """Photometric error, label agreement, flow there and back, and the ceiling of TC, by size."""
    value, rows = _values(table), []
    for size in SIZES:
        photometric = f"{value[f'photometric_exact_{size}']:.2f} / {value[f'photometric_zero_{size}']:.2f}"
        agreement = [f"{100 * value[f'label_agreement{part}_{size}']:.2f} %" for part in ("", "_interior")]
        there_and_back = f"{value[f'flow_return_median_px_{size}']:.0e}"
        rows.append([size, photometric, *agreement, there_and_back, f"{100 * value[f'tc_ceiling_{size}']:.1f}"])
    heads = ["size", "photometric error, exact flow / no flow (grey levels)", "label agreement, nearest"]
    heads += ["in the 3x3-uniform interior", "forward-backward median (px)", "TC of perfect labels"]
    deviation = f"Flow from depth, camera and the parts' own motion differs from it by at most {value['flow_depth_max_px']:.0e} px."
    return f"{_markdown(pd.DataFrame(rows, columns=heads))}\n{deviation}\n"


def cities(table: pd.DataFrame) -> str:
    """The domain gap: one teacher in the cities of training and in val's."""
    value = _values(table)
    rows = [
        [name, _interval(*(value[f"teacher_miou_{where}_cities{end}"] for end in ("", "_low", "_high")))]
        + [f"{100 * value[f'teacher_{what}_{where}_cities']:.1f}" for what in ("recall", "accuracy")]
        for where, name in (("train", "train's cities, fresh snippets"), ("val", "val's cities"))
    ]
    rows.append(
        ["val's, weighted to train's class shares", f"{100 * value['teacher_miou_val_cities_reweighted']:.1f}", "", ""]
    )
    return _markdown(
        pd.DataFrame(rows, columns=["the study's teacher in", "mIoU %", "mean recall %", "pixel accuracy %"])
    )


def transfer(table: pd.DataFrame) -> str:
    """Students on CamVid's val clip."""
    interval = [_interval(*row) for row in table[["miou_11", "ci_low", "ci_high"]].itertuples(index=False)]
    shown = table[["training", "fine_tune_steps", "steps", "seeds"]].set_axis(
        ["trained on", "steps on CamVid", "steps", "seeds"], axis=1
    )
    level = " [95 % over seeds]" * bool(table["ci_low"].notna().any())
    return _markdown(shown.assign(**{f"mIoU of 11 classes, %{level}": interval}))


def _interval(value: float, low: float, high: float) -> str:
    """Percent with its interval; one seed or one clip has none."""
    return f"{100 * value:.1f}" + ("" if pd.isna(low) else f" [{100 * low:.1f}, {100 * high:.1f}]")
