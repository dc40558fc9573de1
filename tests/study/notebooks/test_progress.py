"""The panel of a training in a notebook: what it says of the runs in a store, and that it disturbs none."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from toys import toy_clips

from tcseg.metrics.segmentation import overlap
from tcseg.study.notebooks import progress
from tcseg.training import loop
from tcseg.training.recipe import Recipe

TOY = Recipe("toy", "student-cpu", steps=12, batch=2)


def recipe(name: str, seed: int) -> Recipe:
    return replace(TOY, name=name, seed=seed, steps=TOY.steps if name == "toy" else 200)


def going(store: Path, name: str, step: int, seconds: float) -> Path:
    """A run's folder as the loop leaves it."""
    folder = store / f"{name}-0123abcd"
    folder.mkdir(parents=True)
    lines = [{"step": s, "loss": 2 - s / 100, "ce": 1.0, "lr": 0.1, "seconds": seconds * (s + 1) / (step + 1)} for s in (0, step)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9')
    return folder


@pytest.fixture
def panel(tmp_path):
    """Makes a panel of a store of some runs, and gives what it shows after one look."""

    def look(total: int, workers: int = 1, preview=None, last: bool = False) -> str:
        pages = []
        made = progress.Panel(tmp_path / "runs", recipe, total, workers, preview, pages.append)
        made.began -= 60  # the runs were begun after it
        made.update(last)
        return re.sub(r"<style>.*?</style>", "", pages[-1].data, flags=re.DOTALL)

    return look


def test_two_at_once_have_a_row_each_and_the_time_left_counts_those_to_come(tmp_path, panel):
    going(tmp_path / "runs", "student-s0", 199, 100.0)
    going(tmp_path / "runs", "kd+tl-s1", 99, 60.0)
    going(tmp_path / "runs", "student-s1", 49, 30.0)
    page = panel(total=15, workers=2)
    assert "Training run 2 to 3 of 15" in page
    rows = re.findall(r"<tr><td>(.*?)</td>.*?> (\d+/\d+)</td><td>([\d.]+)</td><td>(.*?)</td><td>(.*?)</td>", page)
    assert [row[:3] for row in rows] == [("kd+tl, seed 1", "100/200", "1.010"), ("student, seed 1", "50/200", "1.510")]
    first, second = (row[4] for row in rows)
    assert re.fullmatch("5[5-9] s|60 s", first) and re.fullmatch("8[5-9] s|90 s|2 min", second), "since the log was written, too"
    assert "about 12 min left" in page or "about 11 min left" in page, "12 more, two at a time, 100 s each"


def test_runs_of_another_day_are_not_counted(tmp_path, panel):
    old = going(tmp_path / "runs", "student-s0", 199, 100.0)
    os.utime(old / "log.jsonl", (0, 0))
    (tmp_path / "runs" / "kd-s0-ffff").mkdir()
    going(tmp_path / "runs", "kd-s1", 0, 1.0)
    assert "Training run 1 of 3" in panel(total=3)
    assert "0 of 3 trained" in panel(total=3, last=True) and "progress value" not in panel(total=3, last=True)


def test_a_checkpoint_is_scored_and_painted_without_touching_random_numbers(tmp_path, panel):
    clips = toy_clips()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    preview = progress.Preview(clips, {"toy": TOY})
    assert torch.equal(before, torch.random.get_rng_state()), "the training's would be others"
    folder = going(tmp_path / "runs", "toy-s0", 5, 3.0)
    model, _ = loop.train(TOY, clips, tmp_path / "made", checkpoint_seconds=0.0, log_every=1)
    assert preview.look(folder / "checkpoint.safetensors", TOY.arch) is None, "there is none yet"
    (tmp_path / "made" / "checkpoint.safetensors").rename(folder / "checkpoint.safetensors")
    miou, picture = preview.look(folder / "checkpoint.safetensors", TOY.arch)
    assert picture.shape == (32, 3 * 64, 3) and 0 <= miou <= 1
    page = panel(total=1, preview=preview)
    assert f"<td>{100 * miou:.1f} %</td>" in page and "at step 12" in page and "data:image/jpeg" in page
    (folder / "checkpoint.safetensors").write_bytes(b"cut in two")
    assert preview.look(folder / "checkpoint.safetensors", TOY.arch) is None
    assert model.label_set.num_classes == 19


def test_the_miou_is_the_metric_s():
    rng = np.random.default_rng(0)
    labels, guesses = (rng.integers(0, 5, (3, 8, 8)) for _ in range(2))
    labels[0, :2] = 255
    counted = overlap(labels.astype(np.uint8), guesses.astype(np.uint8), 5)
    assert progress.mean_iou(guesses, labels, 5) == pytest.approx(np.nanmean(counted.iou()))


def test_nothing_is_shown_outside_a_notebook(tmp_path, monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)

    def clips():
        raise AssertionError("nobody watches")

    with progress.watching(tmp_path, recipe, {"toy": 1}, 1, clips):
        assert progress.WATCHED not in os.environ
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        progress.tell("decoding")
        monkeypatch.setenv("JPY_PARENT_PID", "1")
        monkeypatch.delenv("TCSEG_QUIET", raising=False)
        progress.tell("decoding")
    assert (out.getvalue(), err.getvalue()) == ("decoding\n", "decoding\n"), "a notebook paints standard error red"


def test_in_a_notebook_a_training_is_watched_and_gives_the_same_network(tmp_path, monkeypatch):
    clips, shown = toy_clips(), []
    plain, _ = loop.train(TOY, clips, tmp_path / "plain", log_every=1)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.delenv("TCSEG_QUIET", raising=False)
    monkeypatch.setattr(progress, "EVERY", 0.05)
    for name in ("display", "update"):  # a kernel flushes standard output before it shows anything
        monkeypatch.setattr(progress.DisplayHandle, name, lambda self, page: (sys.stdout.flush(), shown.append(page.data)))
    store, out, err = tmp_path / "runs", io.StringIO(), io.StringIO()
    shown_by = store, recipe, {"toy": 1}, 1, lambda: clips
    both = progress.watching(*shown_by), progress.watching(*shown_by)  # one panel, however deep
    with redirect_stdout(out), redirect_stderr(err), both[0], both[1], progress.silent():
        watched, _ = loop.train(TOY, clips, store / "toy-s0-0123abcd", checkpoint_seconds=0.0, log_every=1)
        time.sleep(0.2)
    assert (out.getvalue(), err.getvalue()) == ("", "") and progress.WATCHED not in os.environ
    assert "1 of 1 trained" in shown[-1] and any("data:image/jpeg" in page for page in shown)
    same = zip(plain.state_dict().values(), watched.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_an_interrupted_training_ends_its_panel(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.delenv("TCSEG_QUIET", raising=False)
    for name in ("display", "update"):
        monkeypatch.setattr(progress.DisplayHandle, name, lambda self, page: None)
    count = threading.active_count()
    with pytest.raises(KeyboardInterrupt), progress.watching(tmp_path, recipe, {"toy": 1}, 1, toy_clips):
        raise KeyboardInterrupt
    assert threading.active_count() == count and not {progress.WATCHED, "TCSEG_QUIET"} & set(os.environ)


IN_A_KERNEL = """
import sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
from pathlib import Path
from toys import toy_clips
from tcseg.study.notebooks import progress
from tcseg.training import loop
from tcseg.training.recipe import Recipe

progress.EVERY, clips = 0.1, toy_clips()
def recipe(name, seed):
    return Recipe(name, "student-cpu", steps=40, batch=2, seed=seed)

with progress.watching(Path({store!r}), recipe, {{"toy": 2}}, 2, lambda: clips), progress.silent():
    for seed in (0, 1):
        loop.train(recipe("toy", seed), clips, Path({store!r}) / f"toy-s{{seed}}-0a", checkpoint_seconds=0.0, log_every=1)
"""


@pytest.mark.slow
def test_a_kernel_shows_one_panel_and_nothing_on_red(tmp_path, monkeypatch):
    monkeypatch.delenv("TCSEG_QUIET", raising=False)
    code = IN_A_KERNEL.format(tests=str(Path(__file__).parents[2]), store=str(tmp_path / "runs"))
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"], outputs
    assert "2 of 2 trained" in outputs[0].data["text/html"]


@pytest.mark.parametrize(("seconds", "words"), [(0, "1 s"), (59.6, "60 s"), (90, "2 min"), (5400, "1 h 30 min")])
def test_a_time_is_told_in_words(seconds, words):
    assert progress.clock(seconds) == words
