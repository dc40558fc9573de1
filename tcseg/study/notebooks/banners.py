"""The banner of a chapter: which data and networks it shows, and how meaningful its numbers are."""

from __future__ import annotations

from tcseg.models import registry

CITY = "procity, a synthetic city (**not** Cityscapes, but with its classes and layout)"
DATA = {
    "procity": CITY,
    "camvid": "CamVid (training images at 1 Hz; evaluation on one clip of 101 frames)",
    "cityscapes": "Cityscapes (labels on one frame of 30, no true flow)",
}
SHOW_SHIPPED = {
    "00_start_here": f"a street of {CITY}; no network was trained in this city",
    "07_your_own_video": f"your `video`, or without one a street of {CITY}",
}
"""Chapters that show the shipped students -> on what: their numbers are not of the parameters' data set and profile."""


def of_study(dataset: str, profile: str, runs: str, size: tuple[int, int]) -> list[str]:
    """Lines of Markdown for a chapter that shows a study at frames of size (W,H)."""
    data = DATA.get(dataset, f"your own data, `{dataset}`")
    lines = [f"Data: {data} at {size[0]}x{size[1]}. Profile: `{profile}`. Runs: `{runs}`."]
    if runs == "reference":
        lines.append(
            "The results are the **committed reference results**; nothing is trained. "
            'Set `runs = "train"` to train your own networks; this takes longer.'
        )
    if profile == "smoke":
        lines.append("**Smoke profile: a few training steps on a handful of clips; its numbers have no meaning.**")
    return lines


def of_shipped(notebook: str | None) -> list[str]:
    """Lines of Markdown for a chapter that shows the shipped students; none for another one."""
    if notebook not in SHOW_SHIPPED:
        return []
    return [
        f"Data: {SHOW_SHIPPED[notebook]}.",
        f"Networks: {'; '.join(map(_network, registry.SHIPPED))}. They are included in the package"
        + ("; one section trains a student for some minutes." if notebook.startswith("07") else "; nothing is trained here."),
        "`dataset`, `profile` and `runs` have no effect in this chapter.",
    ]


def _network(name: str) -> str:
    notes = registry.shipped_notes(name)
    (width, height), miou = notes["size"], 100 * notes["metrics"]["miou"]
    where = f"on {notes['dataset']} at {width}x{height}, where its mIoU is {miou:.1f} %"
    return f"`{notes['recipe']}`, trained {where}"
