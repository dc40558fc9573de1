"""Training: it learns, it resumes to the bit, paired seeds are paired."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import toy_clips

from tcseg.labels import own_classes
from tcseg.models import registry
from tcseg.training import loop
from tcseg.training import recipe as objective
from tcseg.training.recipe import Recipe

TOY = Recipe("toy", "student", steps=6, batch=2, pairs=1)


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_one_cycle_rises_and_falls():
    rates = [loop.one_cycle(step, 100, 1.0) for step in range(100)]
    assert max(rates) == 1.0 and rates.index(1.0) == 14 and rates[0] < 0.1 and rates[-1] < 0.01
    assert loop.one_cycle(0, 1, 1.0) == 1.0


@pytest.mark.slow
def test_it_learns(tmp_path):
    _, cost = loop.train(replace(TOY, steps=30, temporal=1.0), toy_clips(), tmp_path, log_every=1)
    losses = [row["loss"] for row in rows(tmp_path)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    assert cost["steps"] == 30 and cost["train_seconds"] > 0
    assert {"step", "loss", "ce", "temporal", "lr", "seconds"} == set(rows(tmp_path)[0])


class Stop(Exception):
    """Stands for a kill."""


@pytest.fixture
def steps_done(monkeypatch):
    """What each step of a training computed with, in order: (its number, its labelled frames); `stop_at` stops before a step."""
    seen, real = [], loop.compute_losses

    def watched(model, batch, recipe, weights, device, offset, done):
        step = round(done * recipe.steps)
        if step == watched.stop_at:
            raise Stop
        seen.append((step, batch[0].frames.clone()))
        return real(model, batch, recipe, weights, device, offset, done)

    watched.seen, watched.stop_at = seen, None
    monkeypatch.setattr(loop, "compute_losses", watched)
    return watched


def same_weights(one, two):
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def test_resume_goes_on_with_the_next_step_and_gives_the_same_weights(tmp_path, steps_done):
    """Resuming is seen in which steps are done: a training begun anew gives the same weights too, only later."""
    clips, part = toy_clips(), tmp_path / "part"
    whole, _ = loop.train(TOY, clips, tmp_path / "whole", checkpoint_seconds=1e9)
    in_one_go = list(steps_done.seen)
    assert [step for step, _ in in_one_go] == list(range(6))

    steps_done.stop_at = 3
    with pytest.raises(Stop):
        loop.train(TOY, clips, part, checkpoint_seconds=0.0, log_every=1)
    assert not list(part.glob("*.part"))
    before = rows(part)
    with (part / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # what a kill leaves

    steps_done.seen.clear()
    steps_done.stop_at = None
    resumed, cost = loop.train(TOY, clips, part, log_every=1)
    assert [step for step, _ in steps_done.seen] == [3, 4, 5], "steps that were done are not done again"
    for (_, frames), (_, same) in zip(steps_done.seen, in_one_go[3:], strict=True):
        assert torch.equal(frames, same), "a restart draws the next step's batch"
    same_weights(whole, resumed)
    assert [row["step"] for row in rows(part)] == list(range(6)) and rows(part)[:3] == before
    assert cost["train_seconds"] >= before[-1]["seconds"], "the time of all sittings"


def stopped_after(steps, recipe, folder, monkeypatch, **given):
    """Train for so many steps and stop, as a kill would: the checkpoint of the last of them stays."""

    real, calls = loop.compute_losses, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) > steps:
            raise Stop
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop, "compute_losses", interrupted)
        loop.train(recipe, toy_clips(), folder, checkpoint_seconds=0.0, log_every=1, **given)


def steps_of(monkeypatch, recipe, folder, clips=None, **given):
    """Train, and count the steps that were done in this sitting; returns the network and the steps."""
    real, calls = loop.compute_losses, []
    with monkeypatch.context() as patch:
        patch.setattr(loop, "compute_losses", lambda *args: calls.append(1) or real(*args))
        model, _ = loop.train(recipe, clips or toy_clips(), folder, log_every=1, **given)
    return model, len(calls)


SOFT = torch.randint(0, 255, (6, 3, 19, 8, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"learning_rate": 1e-4}, {"steps": 3}, {"steps": 7}, {"batch": 1}, {"temporal": 1.0}]
)
def test_another_recipe_s_checkpoint_is_not_gone_on_from(change, tmp_path, monkeypatch, capfd):
    stopped_after(3, TOY, tmp_path / "one", monkeypatch)
    recipe = replace(TOY, **change)
    found, steps = steps_of(monkeypatch, recipe, tmp_path / "one")
    said = capfd.readouterr().err
    afresh, whole = steps_of(monkeypatch, recipe, tmp_path / "other")
    assert steps == whole == recipe.steps and [row["step"] for row in rows(tmp_path / "one")] == list(range(steps))
    assert "checkpoint.safetensors is of another training" in said and "starts anew" in said
    assert "starts anew" not in capfd.readouterr().err
    for key, value in afresh.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_a_finished_training_s_checkpoint_is_its_own_alone(tmp_path, monkeypatch):
    """All steps done, another seed and rate asked: the old network came back, with no step done."""
    loop.train(TOY, toy_clips(), tmp_path, checkpoint_seconds=0.0)
    assert steps_of(monkeypatch, TOY, tmp_path)[1] <= 1
    assert steps_of(monkeypatch, replace(TOY, seed=3, learning_rate=1e-3), tmp_path)[1] == TOY.steps


def test_other_data_teacher_start_or_number_of_processes_is_another_training():
    recipe, clips = replace(TOY, teacher="plain"), toy_clips()
    lesson = loop.Lesson(clips, [0, 2], SOFT, SOFT.half())
    first = registry.build("student", 19, pretrained=False)
    second = registry.build("student", 19, pretrained=False)
    key = loop.training_key(recipe, lesson, first, 1)
    again = loop.Lesson(toy_clips(), [0, 2], SOFT.clone(), SOFT.half())
    assert loop.training_key(replace(recipe), again, first, 1) == key
    taught = SOFT.clone()
    taught[0] += 1
    others = [
        (lesson, second, 1),
        (lesson, None, 1),
        (lesson, first, 2),
        (replace(lesson, clips=replace(clips, key="other")), first, 1),
        (replace(lesson, clips=replace(clips, dataset="camvid")), first, 1),
        (replace(lesson, chosen=[0, 3]), first, 1),
        (replace(lesson, targets=taught), first, 1),
        (replace(lesson, targets=None), first, 1),
        (replace(lesson, features=None), first, 1),
    ]
    keys = {loop.training_key(recipe, *other) for other in others}
    assert len(keys) == len(others) and key not in keys


@pytest.mark.parametrize("damage", ["cut", "empty", "nameless"])
def test_a_checkpoint_that_says_nothing_is_not_gone_on_from(damage, tmp_path, monkeypatch, capfd):
    stopped_after(3, TOY, tmp_path, monkeypatch)
    path = tmp_path / "checkpoint.safetensors"
    if damage == "nameless":  # as they were written before checkpoints said whose they are
        save_file(load_file(path), path, metadata={"step": "3", "seconds": "1.0"})
    else:
        path.write_bytes(path.read_bytes()[: 2000 if damage == "cut" else 0])
    assert steps_of(monkeypatch, TOY, tmp_path)[1] == TOY.steps
    said = capfd.readouterr().err
    assert ("does not say of which training it is" if damage == "nameless" else "cannot be read") in said


@pytest.mark.slow
def test_resume_after_kill(tmp_path, steps_done):
    """SIGKILL in the middle of training, in a real process; another one, of the same recipe, does the rest and no more."""
    recipe, part = replace(TOY, steps=30), tmp_path / "part"
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from dataclasses import replace\n"
        "import test_training as t; from tcseg.training import loop as training\n"
        "real = training.save_checkpoint\n"
        "def save(*args, **named):\n"
        "    real(*args, **named)\n"
        "    if args[3] >= 8: print('saved', flush=True); sys.stdin.read()\n"  # waits for the kill, however fast the machine is
        "training.save_checkpoint = save\n"
        "training.train(replace(t.TOY, steps=30), t.toy_clips(), Path(sys.argv[1]), checkpoint_seconds=0.0, log_every=1)\n"
    )
    command = [sys.executable, "-c", script, str(part), *map(str, Path(__file__).parents[:2])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert "saved\n" in process.stdout, "the training process ended by itself: its traceback is above"
        process.send_signal(signal.SIGKILL)
    resumed, _ = loop.train(recipe, toy_clips(), part, log_every=1)
    assert [step for step, _ in steps_done.seen] == list(range(8, 30)), "steps that were done are not done again"
    assert [row["step"] for row in rows(part)] == list(range(30))
    whole, _ = loop.train(recipe, toy_clips(), tmp_path / "whole", log_every=1)
    same_weights(whole, resumed)


def test_paired_seeds_see_the_same_labelled_data():
    lesson = loop.Lesson(toy_clips(), list(range(6)))
    alone, offset = loop.draw_batch(TOY, lesson, 3)
    paired, same_offset = loop.draw_batch(replace(TOY, temporal=1.0), lesson, 3)
    other, _ = loop.draw_batch(replace(TOY, seed=1), lesson, 3)
    assert len(alone) == 1 and len(paired) == 2 and offset == same_offset
    torch.testing.assert_close(alone[0].frames, paired[0].frames)
    assert not torch.equal(alone[0].frames, other[0].frames)


def hashes(batch):
    return [hash(clip.frames.numpy().tobytes()) for clip in batch]


@pytest.mark.parametrize(
    "ranks",
    [
        pytest.param(4, id="4 processes"),
        pytest.param(8, id="8 processes"),
    ],
)
def test_no_two_processes_and_no_two_steps_draw_the_same(ranks):
    lesson, recipe = loop.Lesson(toy_clips(), list(range(6))), replace(TOY, temporal=1.0)
    drawn = [
        hashes(loop.draw_batch(recipe, lesson, step, rank)[0]) for step in range(5, 8) for rank in range(ranks)
    ]
    for part in zip(*drawn, strict=True):
        assert len(set(part)) == len(part) == 3 * ranks


def test_the_numbers_of_64_processes_are_apart_for_a_million_steps():
    """`_generator` uses 32 bits of its seed: two processes meet where these are equal."""
    seeds = [loop._generator(0, 0, rank, 0).initial_seed() % 2**32 for rank in range(64)]
    apart = [(a - b) % 2**32 for i, a in enumerate(seeds) for b in seeds[:i]]
    assert min(min(way, 2**32 - way) for way in apart) > 16 * 1_000_000


def test_eight_processes_draw_eight_batches_of_a_step():
    lesson, recipe = loop.Lesson(toy_clips(), list(range(6))), replace(TOY, temporal=1.0)
    drawn = [hashes(loop.draw_batch(recipe, lesson, 5, rank)[0]) for rank in range(8)]
    assert [len(set(part)) for part in zip(*drawn, strict=True)] == [8, 8]


def numbered(count=8, length=3):
    """Clips of one grey: frame t of clip i is 20 i + 4 t."""
    clips = toy_clips(count, length)
    grey = 20 * np.arange(count)[:, None] + 4 * np.arange(length)
    return replace(clips, frames=np.broadcast_to(grey[..., None, None, None], clips.frames.shape).astype(np.uint8))


def drawn_clips(monkeypatch, recipe, lesson, steps, rank=0):
    """Which clips each step's labelled frames and pairs are of."""
    monkeypatch.setattr(loop, "augment", lambda clip, view, generator: clip)
    batches = [loop.draw_batch(recipe, lesson, step, rank)[0] for step in range(steps)]
    return [[(clip.frames[:, 0, 0, 0, 0].long() // 20).tolist() for clip in batch] for batch in batches]


def test_processes_choose_other_clips_and_look_at_them_in_another_way(monkeypatch):
    recipe = replace(TOY, temporal=1.0, batch=1, pairs=1)
    one_clip = loop.Lesson(numbered(1, 2), [0])  # one frame and one pair: they differ in how they are shown
    shown = [hashes(loop.draw_batch(recipe, one_clip, 5, rank)[0]) for rank in range(8)]
    assert [len(set(part)) for part in zip(*shown, strict=True)] == [8, 8]
    many = loop.Lesson(numbered(), list(range(8)))
    chosen = [drawn_clips(monkeypatch, recipe, many, 10, rank) for rank in range(8)]
    for kind in (0, 1):
        assert len({str([step[kind] for step in steps]) for steps in chosen}) == 8


def test_pairs_come_from_all_clips_and_labels_from_the_chosen_ones(monkeypatch):
    lesson = loop.Lesson(numbered(), [1, 4])
    drawn = drawn_clips(monkeypatch, replace(TOY, temporal=1.0, pairs=3), lesson, 20)
    assert {clip for labelled, _ in drawn for clip in labelled} == {1, 4}
    assert {clip for _, pairs in drawn for clip in pairs} == set(range(8))


def test_pairs_are_drawn_apart_from_labelled_frames(monkeypatch):
    """By a stream of their own: neither do they follow the labelled frames, nor do they hang on how many of these there are."""
    recipe = replace(TOY, temporal=1.0, batch=3, pairs=3)
    drawn = drawn_clips(monkeypatch, recipe, loop.Lesson(numbered(), list(range(8))), 40)
    shared = np.mean([len(set(labelled) & set(pairs)) / 3 for labelled, pairs in drawn])
    assert shared == pytest.approx(3 / 8, abs=0.15), "a share of 3 in 8 by chance"
    for batch, chosen in ((1, list(range(8))), (3, [2]), (3, [0, 5, 7])):
        other = drawn_clips(monkeypatch, replace(recipe, batch=batch), loop.Lesson(numbered(), chosen), 40)
        assert [pairs for _, pairs in other] == [pairs for _, pairs in drawn]


def test_batches_drawn_ahead_are_those_of_their_steps():
    lesson, recipe = loop.Lesson(toy_clips(), [0, 2, 4]), replace(TOY, temporal=1.0)
    for ahead in (True, False):
        batches = loop._batches(recipe, lesson, range(2, 5), 0, ahead)
        for step, (batch, offset) in zip(range(2, 5), batches, strict=True):
            again, again_offset = loop.draw_batch(recipe, lesson, step)
            assert offset == again_offset
            for one, two in zip(batch, again, strict=True):
                assert torch.equal(one.frames, two.frames)


def test_pairs_are_of_video_of_moved_stills_or_of_both():
    targets = torch.randint(0, 255, (6, 3, 19, 8, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lesson = loop.Lesson(toy_clips(), [0], targets)
    recipe = replace(TOY, teacher="plain", temporal=1.0, pairs=3)
    drawn = {n: loop.draw_batch(replace(recipe, synthetic=n / 3), lesson, 0)[0][1] for n in (0, 1, 3)}
    for pair in drawn.values():
        parts = (pair.frames, pair.flow, pair.visible, pair.targets)
        assert [len(part) for part in parts] == [3, 3, 3, 3] and pair.features is None
    uniform = {n: (pair.flow.flatten(2).std(2) < 1e-3).all(1) for n, pair in drawn.items()}  # the toy video pans
    assert [found.tolist() for found in uniform.values()] == [[True] * 3, [True, True, False], [False] * 3]


def test_the_temporal_loss_is_ramped():
    lesson, recipe = loop.Lesson(toy_clips(), [0, 2]), replace(TOY, temporal=2.0, ramp=0.5)
    batch, offset = loop.draw_batch(recipe, lesson, 0)
    model = loop.untrained(recipe, lesson, None)
    for done, weight in ((0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        parts = objective.compute_losses(model, batch, recipe, torch.ones(19), torch.device("cpu"), offset, done)
        torch.testing.assert_close(parts["loss"], parts["ce"] + weight * parts["temporal"])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"temporal": 1.0},
        {"teacher": "plain"},
        {"teacher": "trajectory", "temporal": 1.0},
        *({"teacher": "plain", "method": method} for method in objective.METHODS),
        *({"temporal": 1.0, "form": form} for form in objective.FORMS),
        *({"temporal": 1.0, "flow": source} for source in ("exact", "dis", "farneback", "zero", "synthetic")),
        {"temporal": 1.0, "synthetic": 1, "ramp": 0.5},
        {"temporal": 1.0, "form": "l2", "balanced": True, "stop": "b", "mask": "photometric", "gap": 2},
    ],
    ids=lambda change: " ".join(map(str, change.values())) or "plain",
)
def test_every_recipe_takes_a_step(change, tmp_path):
    recipe = replace(TOY, steps=2, **change)
    generator = torch.Generator().manual_seed(0)
    soft = torch.randint(0, 255, (6, 3, 19, 8, 16), dtype=torch.uint8, generator=generator)
    features = torch.randn(6, 3, 128, 4, 8, generator=generator).half()
    model, cost = loop.train(recipe, toy_clips(), tmp_path, soft, features, log_every=1)
    expected = {"ce"} | ({"kd"} if recipe.teacher != "none" else set()) | ({"temporal"} if recipe.temporal else set())
    assert expected == set(rows(tmp_path)[0]) - {"step", "loss", "lr", "seconds"}
    assert model.adapter is None and not any(key.startswith("adapter") for key in model.state_dict())
    assert cost["steps"] == 2 and cost["threads"] >= 1


def test_training_goes_on_from_another_network(tmp_path):
    from tcseg.models import registry

    torch.manual_seed(7)
    first = registry.build("student", 19)
    recipe = replace(TOY, steps=1, learning_rate=1e-9, weight_decay=0.0)
    same, _ = loop.train(recipe, toy_clips(), tmp_path / "same", initial=first)
    torch.testing.assert_close(same.head.weight, first.head.weight, atol=1e-6, rtol=0)
    other = registry.build("student", 11)
    kept, _ = loop.train(recipe, toy_clips(), tmp_path / "other", initial=other)
    torch.testing.assert_close(kept.encoder.conv_stem.weight, other.encoder.conv_stem.weight, atol=1e-6, rtol=0)
    assert kept.head.weight.shape[0] == 19 and kept.label_set.name == "cityscapes"
    things = registry.build("student", own_classes([f"thing {place}" for place in range(19)]))
    fresh, _ = loop.train(recipe, toy_clips(), tmp_path / "things", initial=things)
    assert (fresh.head.weight - things.head.weight).abs().max() > 1e-3, "19 classes, but others: the head is left behind"
    torch.testing.assert_close(fresh.encoder.conv_stem.weight, things.encoder.conv_stem.weight, atol=1e-6, rtol=0)


def test_bad_recipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="teacher is 'big'; it must be one of none, plain, trajectory"):
        replace(TOY, teacher="big")
    with pytest.raises(ValueError, match="steps is 0"):
        replace(TOY, steps=0)
    with pytest.raises(ValueError, match="form is 'l3'; it must be one of l2, "):
        replace(TOY, form="l3")
    with pytest.raises(ValueError, match="synthetic is 2; it is a share, at most 1"):
        replace(TOY, synthetic=2)
    with pytest.raises(ValueError, match="targets is None"):
        loop.train(replace(TOY, teacher="plain"), toy_clips(), tmp_path)
    soft = torch.zeros(6, 3, 19, 8, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="method 'pf' but features is None"):
        loop.train(replace(TOY, teacher="plain", method="pf"), toy_clips(), tmp_path, soft)
    with pytest.raises(ValueError, match="gap is 3; clips of 3 frames have pairs with gaps of 1 to 2"):
        loop.train(replace(TOY, temporal=1.0, gap=3), toy_clips(), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="toy: loss is .* at step"):
        loop.train(replace(TOY, learning_rate=float("inf")), toy_clips(), tmp_path)
