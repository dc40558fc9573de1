"""What the student is taught: fused along the flow, seen both ways round and in two sizes, and stored as it was."""

from dataclasses import replace

import pytest
import torch
from toys import toy_clips

from tcseg.training import teacher_targets


def test_fusing_a_true_trajectory_changes_nothing_and_noise_is_averaged():
    size, shift = (32, 16), 2
    pattern = torch.rand(1, 4, 16, 64, generator=torch.Generator().manual_seed(0)).softmax(1)
    frames = torch.cat([pattern[..., 10 - shift * t : 42 - shift * t] for t in range(5)])  # content moves right by 2 px
    flow = torch.zeros(4, 2, size[1], size[0])
    flow[:, 0] = shift
    seen = torch.ones(4, size[1], size[0], dtype=torch.bool)
    fused = teacher_targets.fuse(frames, {+1: (flow, seen), -1: (-flow, seen)})
    torch.testing.assert_close(fused, frames, atol=1e-5, rtol=0)
    noisy = frames + 0.1 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    error = (teacher_targets.fuse(noisy, {+1: (flow, seen), -1: (-flow, seen)}) - frames)[..., 6:-6].std()
    assert error < 0.65 * 0.1
    unseen = teacher_targets.fuse(noisy, {+1: (flow, ~seen), -1: (-flow, ~seen)})
    torch.testing.assert_close(unseen, noisy)


@pytest.mark.parametrize("options", [{}, {"decay": 0.5}, {"reach": 1}, {"reach": 4, "decay": 0.9}], ids=str)
def test_a_neighbour_counts_by_its_distance_oracle(options):
    """Nothing moves and all is seen: a frame's answer is the mean of all within reach, each to the power of its distance."""
    values = torch.tensor([0.9, 0.1, 0.4, 0.3, 0.8])
    frames = torch.stack((values, 1 - values), 1)[..., None, None].expand(-1, -1, 3, 4)
    still, seen = torch.zeros(4, 2, 3, 4), torch.ones(4, 3, 4, dtype=torch.bool)
    fused = teacher_targets.fuse(frames, {+1: (still, seen), -1: (still, seen)}, **options)
    reach, decay = options.get("reach", 2), options.get("decay", 0.7)
    apart = (torch.arange(5.0)[:, None] - torch.arange(5.0)).abs()
    weight = torch.where(apart <= reach, decay**apart, 0.0)
    expected = (weight * values).sum(1) / weight.sum(1)
    torch.testing.assert_close(fused[:, 0], expected[:, None, None].expand(-1, 3, 4))
    torch.testing.assert_close(fused.sum(1), torch.ones(5, 3, 4))


def test_what_a_neighbour_does_not_see_is_not_taken_from_it():
    """A pixel that is hidden on the way counts no frame behind it either; the pixels beside it lose nothing."""
    values = torch.tensor([0.9, 0.1, 0.4])
    frames = torch.stack((values, 1 - values), 1)[..., None, None].expand(-1, -1, 3, 4)
    still, seen = torch.zeros(2, 2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool)
    hidden = seen.clone()
    hidden[0, 1, 2] = False  # from frame 0 on
    fused = teacher_targets.fuse(frames, {+1: (still, hidden), -1: (still, seen)}, decay=0.5)[:, 0]
    assert fused[0, 1, 2].item() == pytest.approx(0.9)
    assert fused[0, 0, 2].item() == pytest.approx((0.9 + 0.1 / 2 + 0.4 / 4) / 1.75)
    assert fused[1, 1, 2].item() == pytest.approx((0.1 + 0.9 / 2 + 0.4 / 2) / 2), "the way back is another one"


class Lopsided(torch.nn.Module):
    """A small network that answers otherwise where a picture is mirrored; remembers the sizes that it was shown."""

    def __init__(self):
        super().__init__()
        self.layer, self.stride, self.num_classes = torch.nn.Conv2d(3, 4, 4, 4), 4, 4
        torch.nn.init.normal_(self.layer.weight, std=0.02, generator=torch.Generator().manual_seed(0))
        self.shown = []

    def forward(self, frames):
        self.shown.append((frames.shape[-1], frames.shape[-2]))
        frames = frames.float()
        return self.layer(frames) + torch.linspace(0, 2, frames.shape[-1] // 4)[None, None, None]


def test_a_mirrored_frame_gets_the_mirrored_answer():
    frames = torch.randint(0, 256, (2, 3, 32, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    model = Lopsided()
    plain = teacher_targets.plain_probs(model, frames)
    mirrored = teacher_targets.plain_probs(model, frames.flip(-1)).flip(-1)
    assert (plain - mirrored).abs().mean() > 0.05, "else the test could not fail"
    answer = teacher_targets.augmented_probs(model, frames)
    assert answer.shape == plain.shape
    torch.testing.assert_close(teacher_targets.augmented_probs(model, frames.flip(-1)).flip(-1), answer)
    torch.testing.assert_close(answer.sum(1), torch.ones(2, 8, 16))
    only = teacher_targets.augmented_probs(model, frames, scale=1.0)
    torch.testing.assert_close(only, (plain + mirrored) / 2)
    assert not plain.requires_grad and not answer.requires_grad, "nothing flows into a teacher"


@pytest.mark.parametrize(
    "size, scale, larger",
    [((64, 32), 1.5, (96, 64)), ((64, 32), 2.0, (128, 64)), ((64, 32), 0.1, (32, 32)), ((512, 256), 1.5, (768, 384))],
)
def test_the_teacher_sees_both_sizes_and_both_ways_round(size, scale, larger):
    """Sides are multiples of 32, which the encoders need."""
    model = Lopsided()
    frames = torch.randint(0, 256, (1, 3, *size[::-1]), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    teacher_targets.augmented_probs(model, frames, scale)
    assert model.shown == [size] * 2 + [larger] * 2
    if scale == 1.5:
        teacher_targets.augmented_probs(model, frames)
        assert model.shown[4:] == model.shown[:4], "what it is unless it is said"


class Colour(torch.nn.Module):
    """Answers each cell of 4x4 pixels by its own colour."""

    def forward(self, frames):
        told = 0.01 * torch.nn.functional.avg_pool2d(frames.float()[:, :1], 4)
        return torch.cat((told, torch.zeros_like(told)), 1)


@pytest.mark.parametrize("axis", [-1, -2], ids=["to the side", "up and down"])
def test_what_is_seen_in_another_size_is_said_of_the_same_place(axis):
    """Of a picture whose colour is its place, to a twentieth of a pixel; at its border colours are repeated."""
    place = torch.arange(64.0).view((1, 64) if axis == -1 else (64, 1)).expand(1, 3, 64, 64)
    said = torch.logit(teacher_targets.augmented_probs(Colour(), place)[0, 0]) / 0.01
    said = said if axis == -1 else said.mT
    cells = torch.arange(16.0) * 4 + 1.5
    torch.testing.assert_close(said[:, 2:-2], cells.expand(16, -1)[:, 2:-2], atol=0.05, rtol=0)


def test_targets_are_probabilities_and_are_made_once(tmp_path):
    from tcseg.models import registry

    clips, model = toy_clips(2), registry.build("student", 19).eval()
    for kind in ("plain", "trajectory"):
        path = tmp_path / f"{kind}.npy"
        made = teacher_targets.make(model, clips, kind, path)
        assert made.shape == (2, 3, 19, 8, 16) and made.dtype == torch.uint8
        assert (made.float().sum(2) - 255).abs().max() <= 19
        stamp = path.stat().st_mtime_ns
        assert torch.equal(teacher_targets.make(model, clips, kind, path), made) and path.stat().st_mtime_ns == stamp
    features = teacher_targets.make(model, clips, "features", tmp_path / "features.npy")
    assert features.shape == (2, 3, 48, 4, 8) and features.dtype == torch.float16 and features.float().std() > 0
    with pytest.raises(ValueError, match="'big'; it must be one of plain, trajectory, features"):
        teacher_targets.make(model, clips, "big", tmp_path / "x.npy")


@pytest.mark.parametrize("hidden", [False, True])
def test_trajectory_targets_are_fused_along_the_clips_own_flow_both_ways(tmp_path, hidden):
    """Eight pixels a frame to the right, and back: two cells of the targets' grid."""
    clips, model = toy_clips(2, 4, (64, 32)), Lopsided()
    (flow, visible), (back, seen) = clips.flows["exact"], clips.backward
    flow[:], back[:], visible[:], seen[:] = 0, 0, True, True
    flow[:, :, 0], back[:, :, 0] = 8, -8
    if hidden:
        visible[0, 1, :16], seen[1, 2, :, :32] = False, False
        visible[1, 0, 21, 9] = False  # a single pixel: its whole cell is not followed
    made = teacher_targets.make(model, clips, "trajectory", tmp_path / "made.npy")
    for index, frames in enumerate(clips.frames):
        steps = {}
        for direction, some in ((+1, visible), (-1, seen)):
            cells = torch.from_numpy(some[index]).unflatten(1, (8, 4)).unflatten(3, (16, 4)).all(4).all(2)
            move = torch.zeros(3, 2, 8, 16)
            move[:, 0] = 2 * direction
            steps[direction] = move, cells
        wanted = teacher_targets.fuse(teacher_targets.augmented_probs(model, torch.from_numpy(frames)), steps) * 255
        assert (made[index].float() - wanted).abs().max() <= 0.501
    plain = teacher_targets.make(model, clips, "plain", tmp_path / "plain.npy")
    frame_by_frame = torch.stack([teacher_targets.plain_probs(model, torch.from_numpy(frames)) for frames in clips.frames])
    assert (plain.float() - 255 * frame_by_frame).abs().max() <= 0.501 and frame_by_frame.max() > 0.7
    assert (made.float() - plain.float()).abs().mean() > 1, "else the test could not fail"


@pytest.mark.parametrize("gone", [{"flows": {}}, {"backward": None}], ids=["stills", "no way back"])
def test_without_flow_both_ways_nothing_is_fused(tmp_path, gone):
    clips, model = replace(toy_clips(1), **gone), Lopsided()
    made = teacher_targets.make(model, clips, "trajectory", tmp_path / "made.npy")
    alone = teacher_targets.augmented_probs(model, torch.from_numpy(clips.frames[0])) * 255
    assert (made[0].float() - alone).abs().max() <= 0.501


@pytest.mark.parametrize("kind", teacher_targets.KINDS)
def test_so_much_disk_is_asked_for_as_is_taken(kind, tmp_path, monkeypatch):
    from tcseg.models import registry

    asked = []
    monkeypatch.setattr(teacher_targets, "require_disk", lambda folder, size, what: asked.append((folder, size, what)))
    made = teacher_targets.make(registry.build("student", 19).eval(), toy_clips(1), kind, tmp_path / "new" / "one" / "made.npy")
    assert asked == [(tmp_path / "new" / "one", made.numel() * made.element_size(), f"the teacher's {kind} targets")]
    assert not list(tmp_path.rglob("*.part"))
