"""The page *Your own data*: its ten commands take a film to a student that is exported."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg.data.class_tables import class_table
from tcseg.data.folders import find_dataset
from tcseg.study.paths import REPOSITORY

PAGE = (REPOSITORY / "notebooks" / "your_data.md").read_text(encoding="utf-8")
BASH = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
FILM = "highway_960x540"
OF_MAPS = {0: 0, 1: 0, 8: 2, 9: 2, 10: 3, **dict.fromkeys((11, 12, 13, 14, 15, 16, 17, 18), 1)}
"""Cityscapes' trainId -> road, vehicle, green, sky; the rest is 4."""


def commands() -> list[str]:
    return [line for block in BASH for line in block.splitlines() if not line.startswith("#")]


def test_there_are_ten_commands_and_they_are_numbered():
    numbers = [int(n) for block in BASH for n in re.findall(r"^# (\d+)\.", block, re.MULTILINE)]
    assert numbers == list(range(1, 11)) and len(commands()) == 10


def test_the_classes_on_the_page_are_a_class_table(tmp_path):
    block, split = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "classes.yaml").write_text(block)
    table = class_table(str(tmp_path / "classes.yaml"))
    assert table.label_set.classes == ("road", "vehicle", "rest") and table.ids == (0, 13, 2) and table.mapped == {14: 1, 15: 1}
    assert table.void == {9, 254, 255} and "stills: [monday]" in split


def stored_or_drawn(folder: Path) -> tuple[Path, dict[int, np.ndarray]]:
    """A short film, and label maps of its frames in the page's five classes: the stored ones, else drawn blocks."""
    videos, maps = find_dataset("videos"), find_dataset("teacher_maps")
    stored = maps / "videos" / "labels" / FILM if maps else None
    out = cv2.VideoWriter(str(folder / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (480, 270))
    labels = {}
    source = cv2.VideoCapture(str(videos / f"{FILM}.mp4")) if videos and stored and stored.is_dir() else None
    table = np.full(256, 4, np.uint8)
    table[list(OF_MAPS)] = list(OF_MAPS.values())
    for t in range(125):
        if source is not None:
            frame = cv2.resize(source.read()[1], (480, 270), interpolation=cv2.INTER_AREA)
            ids = table[cv2.imread(str(stored / f"{t:06d}.png"), cv2.IMREAD_UNCHANGED)]
            labels[t] = cv2.resize(ids, (480, 270), interpolation=cv2.INTER_NEAREST_EXACT)
        else:
            labels[t] = np.zeros((270, 480), np.uint8)
            labels[t][:90], labels[t][90:150, :200], labels[t][120:180, 2 * t : 2 * t + 90] = 3, 2, 1
            frame = np.array([[90, 90, 90], [0, 0, 200], [40, 160, 40], [230, 180, 120]], np.uint8)[labels[t]]
        out.write(frame)
    out.release()
    return folder / "drive.mp4", labels


@pytest.mark.slow
def test_the_ten_commands_take_a_film_to_an_exported_student(tmp_path):
    _, labels = stored_or_drawn(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TCSEG_STUDIES": str(tmp_path / "data" / "study")}
    for number, line in enumerate(commands(), 1):
        line = line.replace("laptop", "smoke")  # the page trains for an hour
        line = line.replace("tcseg bench", "tcseg bench --frames 3 --anyway --runtime pytorch") if number == 10 else line
        line = re.sub(r"^tcseg ", f"{shlex.quote(sys.executable)} -m tcseg ", line)
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{number}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        if number == 1:
            for picture in (tmp_path / "mine" / "to_label").glob("*/*.jpg"):
                target = tmp_path / "mine" / "labels" / picture.parent.name / f"{picture.stem}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(target), labels[int(picture.stem)])
    assert json.loads((tmp_path / "mine.json").read_text())["classes"] == ["road", "vehicle", "green", "sky", "rest"]
    facts = json.loads((tmp_path / "mine.onnx.json").read_text())
    assert "vehicle" in json.dumps(facts) and (tmp_path / "classes.mp4").stat().st_size > 10_000
    assert "miou" in (tmp_path / "scores" / "metrics.csv").read_text()
