"""One training in several processes: the steps of one process, whatever is divided among how many."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import toy_clips

from tcseg.training import loop, shares, together
from tcseg.training.recipe import Recipe
from tcseg.training.shares import Share, draw_share

TOY = Recipe("toy", "student", steps=6, batch=6, pairs=3, temporal=1.0, synthetic=1 / 3)


# ------------------------------------------------------------------------------------------------ shares


@pytest.mark.parametrize(("total", "count"), [(6, 2), (3, 2), (7, 3), (16, 8), (5, 5)])
def test_shares_are_even_disjoint_and_complete(total, count):
    parts = [range(total)[Share(rank, count).of(total)] for rank in range(count)]
    assert sum(map(list, parts), []) == list(range(total))
    assert {len(part) for part in parts} <= {total // count, -(-total // count)} and all(parts)


def numbered(count=20, length=3):
    """Clips of one grey: frame t of clip i is 10 i + 3 t."""
    clips = toy_clips(count, length, (32, 32))
    grey = 10 * np.arange(count)[:, None] + 3 * np.arange(length)
    return replace(clips, frames=np.broadcast_to(grey[..., None, None, None], clips.frames.shape).astype(np.uint8))


def test_the_processes_draw_the_clips_of_one_batch_none_twice(monkeypatch):
    """As one process does, which draws without repetition; and over the steps each process sees all clips."""
    monkeypatch.setattr(shares, "augment", lambda clip, view, generator: clip)
    monkeypatch.setattr(loop, "augment", lambda clip, view, generator: clip)
    lesson, chosen = loop.Lesson(numbered(), list(range(0, 20, 2))), {}
    for step in range(30):
        for kind in (0, 1):
            parts = [draw_share(TOY, lesson, step, Share(rank, 3))[0][kind] for rank in range(3)]
            drawn = [(clip.frames[:, 0, 0, 0, 0].long() // 10).tolist() for clip in parts]
            flat = sum(drawn, [])
            assert len(set(flat)) == len(flat) == (TOY.batch, TOY.pairs)[kind]
            for rank, own in enumerate(drawn):
                chosen.setdefault((kind, rank), set()).update(own)
    assert all(seen == set(range(0, 20, 2)) for (kind, _), seen in chosen.items() if kind == 0)
    assert all(len(seen) > 15 for (kind, _), seen in chosen.items() if kind == 1)


@pytest.mark.slow
def test_no_two_shares_of_eight_processes_and_a_thousand_steps_are_alike():
    recipe = replace(TOY, batch=8, pairs=8)
    lesson, seen = loop.Lesson(toy_clips(16, 2, (32, 32)), list(range(16))), [set(), set()]
    for step in range(1000):
        for rank in range(8):
            own, _ = draw_share(recipe, lesson, step, Share(rank, 8))
            for kind, clip in zip(seen, own, strict=True):
                kind.add(hash(clip.frames.numpy().tobytes()))
    assert [len(kind) for kind in seen] == [8000, 8000]


def test_the_offset_is_the_same_in_all_processes_and_as_many_stills_are_moved_as_the_recipe_says(monkeypatch):
    lesson = loop.Lesson(toy_clips(), list(range(6)))
    counts, real = [], loop._draw_pairs
    monkeypatch.setattr(loop, "_draw_pairs", lambda part, *more: counts.append(part) or real(part, *more))
    for processes in (1, 2, 3):
        counts.clear()
        offsets = {draw_share(TOY, lesson, 4, Share(rank, processes))[1] for rank in range(processes)}
        assert len(offsets) == 1
        assert sum(part.pairs for part in counts) == 3 and sum(round(part.synthetic * part.pairs) for part in counts) == 1


@pytest.mark.parametrize(
    ("recipe", "count", "told"),
    [
        (TOY, 4, "processes are 4; toy has 6 frames and 3 pairs a step: start 3 at most"),
        (replace(TOY, temporal=0.0), 7, "processes are 7; toy has 6 frames a step: start 6 at most"),
    ],
)
def test_more_processes_than_the_batch_has_parts_are_refused(recipe, count, told):
    with pytest.raises(ValueError, match=told):
        together.require_divisible(recipe, count)
    together.require_divisible(recipe, count - 1)


def test_processes_on_several_machines_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(ValueError, match="processes are 2, of which 1 are on this machine"):
        together.require_divisible(TOY, 2)


# ------------------------------------------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder that two_processes.py has filled."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(folder: Path) -> dict[str, list[float]]:
    log = rows(folder / "log.jsonl")
    return {name: [row[name] for row in log] for name in log[0] if name not in ("seconds", "step", "lr")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "taught", "etc", "features"])
def test_the_loss_of_two_processes_is_that_of_one_with_the_same_batch(name, made):
    codes = json.loads((made / "codes.json").read_text())
    assert codes[name] == [0, 0] and codes[f"{name}-alone"] == [0]
    two, one = curve(made / name), curve(made / f"{name}-alone")
    assert two.keys() == one.keys() and len(two["loss"]) == len(one["loss"]) > 2
    for part, values in one.items():
        np.testing.assert_allclose(two[part], values, atol=1e-4, err_msg=part)
    ranks = [load_file(made / name / f"{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0]), "both processes end with one network"
    alone = load_file(made / f"{name}-alone" / "0.safetensors")
    assert ranks[0].keys() == alone.keys()
    for key, value in alone.items():
        torch.testing.assert_close(ranks[0][key], value, rtol=1e-2, atol=1e-2, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.slow
def test_the_first_process_alone_tells_what_it_cost(made):
    costs = [json.loads((made / "taught" / f"cost-{rank}.json").read_text()) for rank in (0, 1)]
    assert costs[1] == {} and costs[0]["processes"] == 2 and costs[0]["steps"] == 6
    assert [row["step"] for row in rows(made / "taught" / "log.jsonl")] == list(range(6)), "one log, each step once"


@pytest.mark.slow
def test_after_a_kill_the_training_goes_on_with_the_same_weights(made):
    codes = json.loads((made / "codes.json").read_text())
    assert codes["killed"] == [-9, -9] and codes["again"] == [0, 0]
    before = rows(made / "log-when-killed.jsonl")
    after = rows(made / "killed" / "log.jsonl")
    assert [row["step"] for row in before] == list(range(4)) and [row["step"] for row in after] == list(range(6))
    assert after[:3] == before[:3], "steps that were done are not done again"
    whole, resumed = (load_file(made / name / "0.safetensors") for name in ("taught", "killed"))
    for key, value in whole.items():
        assert torch.equal(resumed[key], value), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "told"),
    [
        ("one of two", "refused", "InputError: .* is of another training.*; start as many processes as before"),
        ("not finite", "infinite", "FloatingPointError: toy: loss is .* at step 1"),
        ("too many", "many", "InputError: processes are 4; toy has 3 frames a step: start 3 at most"),
    ],
)
def test_all_processes_stop_with_the_same_error(name, folder, told, made):
    codes = json.loads((made / "codes.json").read_text())[name]
    assert set(codes) == {1}
    for rank in range(len(codes)):
        with pytest.raises(AssertionError, match=told):
            raise AssertionError((made / folder / f"error-{rank}.txt").read_text().splitlines()[0])
