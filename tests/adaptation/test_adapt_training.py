"""The training: the same whatever happens meanwhile, balanced, and of use."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_frames import drive, write_folder
from test_store import CLASSES, Brightness, gather

from tcseg.adaptation.learning import batches, training
from tcseg.adaptation.learning.batches import Replay, draw
from tcseg.adaptation.learning.material import Material, Settings
from tcseg.adaptation.learning.training import QuickCheck, compute_losses, train
from tcseg.data.augmentation import Clip
from tcseg.errors import InputError
from tcseg.models import registry

TINY = Settings(steps=8, batch=2, pairs=1, crop=(96, 64), replay=0, checks=2, patience=9)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    return [gather(write_folder(folder / "street", drive(1, 45)), folder / "answers", Brightness())]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network():
    torch.manual_seed(3)
    return registry.build("student", CLASSES)


def material(targets, settings=TINY):
    return Material(targets, [one.split()[0] for one in targets], settings)


def check(targets):
    return QuickCheck(targets, [one.split()[1] for one in targets])


def run(targets, folder, settings=TINY, **options):
    options = {"check": check(targets), "progress": False} | options
    return train(settings, material(targets, settings), network(), options.pop("check"), folder, **options)


def weights(trained):
    return torch.cat([value.flatten().double() for value in trained.network.state_dict().values()])


def test_two_runs_are_one(targets, tmp_path):
    first, second = (run(targets, tmp_path / name) for name in "ab")
    assert torch.equal(weights(first), weights(second)) and first.checks == second.checks
    other = run(targets, tmp_path / "c", replace(TINY, seed=1))
    assert not torch.equal(weights(first), weights(other))


class Killed(Exception):
    pass


@pytest.mark.parametrize("dies_at", [1, 3, 4, 6])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_happened(targets, tmp_path, monkeypatch, dies_at):
    whole = run(targets, tmp_path / "whole")
    real, seen = training.draw, []

    def dying(given, step):
        if len(seen) == dies_at:
            raise Killed
        seen.append(step)
        return real(given, step)

    monkeypatch.setattr(training, "draw", dying)
    with pytest.raises(Killed):
        run(targets, tmp_path / "cut", checkpoint_seconds=0)
    monkeypatch.setattr(training, "draw", real)
    rest = run(targets, tmp_path / "cut", checkpoint_seconds=0)
    assert torch.equal(weights(whole), weights(rest)) and whole.checks == rest.checks and whole.step == rest.step
    again = run(targets, tmp_path / "cut")  # a finished one is only read
    assert torch.equal(weights(again), weights(whole))


SCRIPT = """
import sys
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from pathlib import Path
import test_adapt_training as t
from test_frames import drive, write_folder
from test_store import Brightness, gather
targets = [gather(Path({street!r}), Path({answers!r}), Brightness())]
t.run(targets, Path({folder!r}), checkpoint_seconds=0)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_bit_for_bit(targets, tmp_path):
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    places = {"street": targets[0].plan.source, "answers": str(targets[0].folder.parent), "folder": str(tmp_path / "cut")}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(path=path, **places)])
    while not (tmp_path / "cut" / "checkpoint.safetensors").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.equal(weights(run(targets, tmp_path / "cut")), weights(run(targets, tmp_path / "whole")))


def test_a_checkpoint_of_another_run_is_passed_over(targets, tmp_path, capfd):
    run(targets, tmp_path / "a")
    other = run(targets, tmp_path / "a", replace(TINY, seed=1))
    assert "starts anew" in capfd.readouterr().err
    assert torch.equal(weights(other), weights(run(targets, tmp_path / "b", replace(TINY, seed=1))))


def test_the_best_is_kept_and_what_gets_no_better_ends(targets, tmp_path):
    said = iter([0.1, 0.5, 0.9, 0.3, 0.2, 0.1, 0.0, 0.0])
    settings = replace(TINY, checks=8, patience=2)
    trained = run(targets, tmp_path / "a", settings, check=lambda network: next(said))
    assert trained.step == 3 and [score for _, score in trained.checks] == [0.1, 0.5, 0.9, 0.3, 0.2, 0.1]
    assert [path.name for path in (tmp_path / "a").glob("best-*")] == ["best-3.safetensors"]
    steps = replace(settings, steps=3, checks=1)
    assert not torch.equal(weights(trained), weights(run(targets, tmp_path / "b", steps)))


def test_a_pool_is_of_the_step_alone(targets):
    few = replace(TINY, memory=1)
    one, other = material(targets, few), material(targets, few)
    one.at(0)
    assert one.held == 8 < len(one.where)
    late = [draw(given, 250) for given in (one, other)]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(*late))
    rounds = [one._chosen(number) for number in range(len(one.where))]
    counts = np.bincount(np.concatenate(rounds))
    assert counts.min() == counts.max() == 8  # each is seen as often as the others


def test_what_is_cut_belongs_together(targets):
    """The teacher says how bright a cell is: so must the targets of every cut, zoomed, mirrored or moved."""
    settings = replace(TINY, crop=(64, 32), batch=8, pairs=4)
    given = material(targets, settings)
    plain = batches.change_light
    batches.change_light = lambda frames, strength, generator: frames.float()
    try:
        for step in range(6):
            for clip in draw(given, step):
                bright = torch.nn.functional.avg_pool2d(clip.frames.flatten(0, 1).mean(1, keepdim=True), 4)[:, 0] / 255
                told = clip.targets[:, :, 1].flatten(0, 1)
                assert (bright - told).abs().mean() < 0.03 and clip.taught.min() > 0.98
    finally:
        batches.change_light = plain


def test_flow_of_a_cut_is_the_pans(targets):
    given, found = material(targets, replace(TINY, pairs=8)), []
    for step in range(4):
        clip = draw(given, step)[1]
        found += [float(flow[0][seen].median()) for flow, seen in zip(clip.flow, clip.visible)]
    scale = 96 / 160 * 2 / 4  # two pixels of 160 columns a frame, in cells of 96
    assert {round(abs(one) / scale, 1) for one in found} <= {0.9, 1.0, 1.1} and {one > 0 for one in found} == {True, False}


def test_stills_are_moved_by_a_known_motion(tmp_path):
    stills = gather(write_folder(tmp_path / "stills", drive(1, 40, step=20)), tmp_path / "a", Brightness(), fps=1)
    clip = draw(material([stills], replace(TINY, pairs=3)), 0)[1]
    moved, inside = batches.warp(clip.targets[:, 1], clip.flow)
    seen = inside & (batches.warp(clip.taught[:, 1:], clip.flow)[0][:, 0] > 0.95)
    assert seen.float().mean() > 0.6 and (moved - clip.targets[:, 0]).abs().mean(1)[seen].mean() < 0.03


def test_rare_classes_are_looked_for(targets):
    class Corner(Brightness):
        def __call__(self, frame, grid, place):
            given = np.zeros((2, grid[1], grid[0]), np.float32)
            given[0] = 1
            if int(place.frame[1:]) < 6:
                given[:, :2, :2] = [[[0.0]], [[1.0]]]
            return given

    folder = Path(targets[0].folder).parent
    told = [gather(targets[0].plan.source, folder, Corner("corner"))]
    shares = []
    for rare in (0.0, 1.0):
        settings = replace(TINY, crop=(32, 32), rare=rare, batch=20, pairs=0)
        given = material(told, settings)
        shares.append(
            np.mean([float((draw(given, step)[0].targets[:, :, 1] > 0.5).any(-1).any(-1).float().mean()) for step in range(4)])
        )
    assert shares[1] > 2 * shares[0] and shares[1] > 0.2


def test_an_unsure_teacher_counts_less_and_a_silent_one_nothing():
    model = network().eval()
    settings, ones = replace(TINY, balance=0.0), torch.ones(2)
    frames = torch.from_numpy(np.stack(drive(1, 2))[:, :64, :96].copy()).permute(0, 3, 1, 2)[:, None].float()
    targets = torch.zeros(2, 1, 2, 16, 24)
    targets[0, :, 0] = targets[1, :, 1] = 1

    def loss(*sure):
        taught = torch.tensor(sure).view(2, 1, 1, 1).expand(2, 1, 16, 24)
        return float(
            compute_losses(model, [Clip(frames, targets=targets, taught=taught)], None, settings, ones, 1.0)["loss"].detach()
        )

    first, second = loss(1.0, 0.0), loss(0.0, 1.0)
    assert loss(0.6, 0.2) == pytest.approx((0.6 * first + 0.2 * second) / 0.8, rel=1e-4)
    assert loss(0.0, 0.0) == 0


def test_balanced_answers_are_a_class_weighted_cross_entropy():
    probs = torch.rand(1, 1, 3, 4, 5).softmax(2)
    clip, weights = Clip(torch.zeros(1, 1, 3, 16, 20), targets=probs, taught=torch.ones(1, 1, 4, 5)), torch.tensor([0.5, 1.0, 7.0])
    balanced, log = training._balanced(clip, weights), torch.randn(1, 1, 3, 4, 5).log_softmax(2)
    wanted = -(weights.view(3, 1, 1) * probs * log).sum(2)
    found = -(balanced.targets * log).sum(2) * balanced.taught
    torch.testing.assert_close(found, wanted)


def test_drawn_streets_leave_the_norms_alone(tmp_path):
    model = registry.build("student", 19).train()
    settings = replace(TINY, crop=(64, 32), batch=2)
    batches.DRAWN, before = 2, batches.DRAWN
    try:
        replay = Replay(settings, tmp_path)
        again = Replay(settings, tmp_path)
    finally:
        batches.DRAWN = before
    frames, labels = replay.draw(3)
    assert torch.equal(frames, again.draw(3)[0]) and frames.shape == (2, 3, 32, 64) and labels.shape == (2, 32, 64)
    assert set(labels.unique().tolist()) <= {*range(19), 255} and len(labels.unique()) > 3
    video = Clip(torch.rand(2, 1, 3, 32, 64) * 255, targets=torch.full((2, 1, 19, 8, 16), 1 / 19), taught=torch.ones(2, 1, 8, 16))
    states = []
    for replayed in (None, (frames, labels)):
        twin = registry.build("student", 19).train()
        twin.load_state_dict(model.state_dict())
        parts = compute_losses(twin, [video], replayed, settings, torch.ones(19), 1.0)
        states.append({key: value for key, value in twin.state_dict().items() if "running" in key})
        assert ("ce" in parts) == (replayed is not None)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_nothing_to_learn_from(targets):
    with pytest.raises(InputError, match="no snippets to learn from"):
        Material(targets, [[]], TINY)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seed": -1}, {"learning_rate": 0}, {"batch": 0}, {"temporal": -1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Settings(**wrong)
