"""Consistency over time: cases whose answer is known, independent implementations, and what the published scripts do."""

import numpy as np
import pytest

from tcseg.labels import IGNORE
from tcseg.metrics import segmentation, temporal, trajectories

RNG = np.random.default_rng(0)
SHAPE = (48, 64)
EVERYTHING = np.ones(SHAPE, bool)
STILL = np.zeros((2, *SHAPE), np.float32)


def blobs(classes=19, shape=SHAPE):
    """A label map of patches, as label maps are."""
    small = RNG.integers(0, classes, (-(-shape[0] // 8), -(-shape[1] // 8)))
    return np.kron(small, np.ones((8, 8)))[: shape[0], : shape[1]].astype(np.uint8)


def noisy(labels, share=0.2, classes=19):
    return np.where(RNG.random(labels.shape) < share, RNG.integers(0, classes, labels.shape), labels).astype(np.uint8)


def constant(x, y=0.0):
    return np.stack((np.full(SHAPE, x, np.float32), np.full(SHAPE, y, np.float32)))


def tc(map_a, map_b, flow, visible=EVERYTHING, **more):
    return temporal.count_pair(map_a, map_b, flow, visible, 19, **more).overlaps()["tc"]


# ------------------------------------------------------------------------------------------------ TC


def test_equal_maps_under_identity_flow_are_wholly_consistent():
    labels = blobs()
    counts = tc(labels, labels, STILL)
    assert counts.miou() == 1 and counts.labelled.sum() == labels.size


def test_a_known_shift_drops_what_leaves_the_frame():
    labels = blobs()
    counts = tc(labels, np.roll(labels, 3, axis=1), constant(3))
    assert counts.miou() == 1 and counts.labelled.sum() == 48 * 61
    assert (temporal.warp_map(np.roll(labels, 3, axis=1), constant(3))[:, -3:] == IGNORE).all()


def test_half_a_pixel_goes_to_the_even_neighbour():
    """Nearest has to choose at exactly half a pixel; it rounds to even, as numpy and torch do, and stays within a pixel."""
    row = np.tile(np.arange(64, dtype=np.uint8) % 19, (48, 1))
    assert (temporal.warp_map(row, constant(0.5))[:, :-1] == row[:, np.rint(np.arange(63) + 0.5).astype(int)]).all()
    assert (temporal.warp_map(row, constant(0.4))[:, :-1] == row[:, :-1]).all()


def test_permuted_classes_have_the_same_tc():
    order = RNG.permutation(19).astype(np.uint8)
    a, b, flow = blobs(), blobs(), RNG.normal(0, 2, (2, *SHAPE)).astype(np.float32)
    assert tc(a, b, flow).miou() == pytest.approx(tc(order[a], order[b], flow).miou())


def test_hidden_pixels_count_without_the_mask_only():
    a, b = blobs(), blobs()
    visible = RNG.random(SHAPE) < 0.7
    found = temporal.count_pair(a, b, STILL, visible, 19).overlaps()
    assert found["tc"].labelled.sum() == visible.sum()
    assert found["tc_unmasked"].labelled.sum() == a.size
    assert set(found) == {"tc", "tc_unmasked"}  # without labels nobody knows where the borders are


def test_band_and_interior_make_the_whole():
    labels = blobs()
    band = segmentation.boundary_band(labels, 1)
    a, b = noisy(labels), noisy(labels)
    found = temporal.count_pair(a, b, STILL, EVERYTHING, 19, (labels, labels, band)).overlaps()
    together = found["tc_boundary"] + found["tc_interior"]
    assert (together.iou() == found["tc"].iou()).all() and 0 < found["tc_boundary"].labelled.sum() == band.sum()


def test_the_kernel_equals_the_definition_oracle():
    """One pass for all masks against the definition in numpy, with void in labels and a void answer."""
    labels_a = blobs()
    labels_b = np.where(RNG.random(SHAPE) < 0.7, np.roll(labels_a, 1, 0), blobs())
    labels_a[:5], labels_b[:, :7] = IGNORE, IGNORE
    a, b = noisy(labels_a), noisy(labels_b)
    flow, visible = RNG.normal(0, 3, (2, *SHAPE)).astype(np.float32), RNG.random(SHAPE) < 0.8
    pair = temporal.count_pair(a, b, flow, visible, 19, (labels_a, labels_b, segmentation.boundary_band(labels_a)))
    b_on_a, truth_b = temporal.warp_map(b, flow), temporal.warp_map(labels_b, flow)
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    to_x, to_y = np.rint(x + flow[0]), np.rint(y + flow[1])
    inside = (to_x >= 0) & (to_x < 64) & (to_y >= 0) & (to_y < 48)
    known = inside & (labels_a != IGNORE) & (truth_b != IGNORE)
    beyond = np.where(a >= 19, 19, a)  # a void answer, as a class of its own that is not averaged over
    for name, mask in (("tc", known & visible), ("tc_unmasked", known)):
        oracle = np.zeros((20, 20), np.int64)
        np.add.at(oracle, (beyond[mask], np.minimum(b_on_a, 19)[mask]), 1)
        found = pair.overlaps()[name]
        assert (found.intersection == np.diag(oracle)[:19]).all()
        assert (found.predicted == oracle.sum(0)[:19]).all() and (found.labelled == oracle.sum(1)[:19]).all()
    steady = known & visible & (labels_a == truth_b)
    assert 0.15 < steady.mean() < 0.9 * (known & visible).mean()
    before, after = (a == labels_a)[steady], (b_on_a == labels_a)[steady]
    changed = (a != b_on_a)[steady]
    assert pair.flicker.shares() == {
        "flicker": segmentation.Share(changed.sum(), steady.sum()),
        "harmful_flicker": segmentation.Share((before & ~after).sum(), before.sum()),
        "healed": segmentation.Share((~before & after).sum(), (~before).sum()),
        "wandering": segmentation.Share((~before & ~after & changed).sum(), (~before).sum()),
    }


def test_tc_is_the_definition_where_no_answer_is_void():
    a, b = blobs(), blobs()
    flow, visible = RNG.normal(0, 3, (2, *SHAPE)).astype(np.float32), RNG.random(SHAPE) < 0.8
    warped = temporal.warp_map(b, flow)
    by_definition = temporal.temporal_overlap(a, warped, visible & (warped != IGNORE), 19)
    assert (tc(a, b, flow, visible).iou() == by_definition.iou()).all()


def test_a_void_answer_agrees_with_nothing():
    void = np.full(SHAPE, IGNORE, np.uint8)
    assert np.isnan(tc(void, void, STILL).miou())
    half = blobs()
    half[:24] = 3
    abstains = half.copy()
    abstains[:24] = IGNORE  # one answer in two frames is a change, not an excuse
    assert tc(half, abstains, STILL).iou()[3] < 1


def test_frames_without_a_label_leave_nothing_to_say():
    nothing = np.full(SHAPE, IGNORE, np.uint8)
    pair = temporal.count_pair(blobs(), blobs(), STILL, EVERYTHING, 19, (nothing, nothing, ~EVERYTHING))
    assert np.isnan(pair.overlaps()["tc"].miou())
    assert all(np.isnan(share.value()) for share in pair.flicker.shares().values())


def test_flow_that_is_not_a_number_is_out_of_the_frame():
    assert tc(blobs(), blobs(), constant(np.nan)).labelled.sum() == 0
    assert tc(blobs(), blobs(), constant(1e30)).labelled.sum() == 0


@pytest.mark.parametrize("warp", temporal.WARPS.values(), ids=temporal.WARPS)
def test_a_flow_of_another_size_is_refused(warp):
    for shape in ((2, 4, 4), (2, 99, 99), (3, 48, 64), (1, 48, 64)):
        with pytest.raises(ValueError, match=rf"flow is \({shape[0]}, {shape[1]}, {shape[2]}\) but the label map \(48, 64\)"):
            warp(blobs(), np.zeros(shape, np.float32))


def test_constant_map_wins_tc():
    flat = np.zeros(SHAPE, np.uint8)
    assert tc(flat, flat, STILL).miou() == 1  # present classes only: why TC never stands without mIoU
    counts = temporal.etc_compat(flat, flat, STILL, 19)
    assert temporal.etc_score(counts) == pytest.approx(1 / 19)  # all classes, absent ones count zero


# ------------------------------------------------------------------------------------------------ flicker


def test_flicker_by_hand():
    """Of so many pixels each: steady 5, spoiled 4, healed 3, wandering 2 (to a higher class, to a lower one), stuck 1."""
    truth = np.array([[0] * 5 + [3] * 4 + [1] * 3 + [2] * 2 + [4] + [IGNORE, 1]], np.uint8)
    later = np.array([[0] * 5 + [3] * 4 + [1] * 3 + [2] * 2 + [4] + [1, 0]], np.uint8)  # the last one's truth changes
    a = np.array([[0] * 5 + [3] * 4 + [0, 2, 3] + [1, 3] + [1] + [1, 1]], np.uint8)
    b = np.array([[0] * 5 + [0, 1, 2, 4] + [1] * 3 + [3, 1] + [1] + [0, 0]], np.uint8)
    still, seen = np.zeros((2, *truth.shape), np.float32), np.ones(truth.shape, bool)
    found = temporal.count_pair(a, b, still, seen, 19, (truth, later, ~seen)).flicker
    assert found == temporal.Flicker(steady=5, spoiled=4, healed=3, wandering=2, stuck=1)
    assert {name: share.value() for name, share in found.shares().items()} == {
        "flicker": 9 / 15, "harmful_flicker": 4 / 9, "healed": 3 / 6, "wandering": 2 / 6,
    }  # fmt: skip
    assert all(share == segmentation.Share(0, 0) for share in temporal.Flicker().shares().values())


# ------------------------------------------------------------------------------------------------ ways to warp


@pytest.mark.parametrize("way", temporal.WARPS)
def test_every_way_is_the_identity_at_rest(way):
    labels = blobs()
    assert (temporal.WARPS[way](labels, STILL) == labels).all()


def test_nearest_equals_the_tensor_warp_oracle():
    import torch
    from oracles import warp_labels

    labels, flow = blobs(), RNG.normal(0, 4, (2, *SHAPE)).astype(np.float32)
    ours = temporal.warp_map(labels, flow)
    theirs = warp_labels(torch.from_numpy(labels)[None], torch.from_numpy(flow)[None])[0].numpy()
    # The tensor version drops targets outside the outermost pixel *centres*, half a pixel earlier.
    both = (ours != IGNORE) & (theirs != IGNORE)
    assert (ours[both] == theirs[both]).mean() > 0.999 and both.mean() > 0.7


def test_votes_equal_one_hot_warping_oracle():
    import torch

    from tcseg.flow import warp

    labels, flow = blobs(6), RNG.normal(0, 2, (2, *SHAPE)).astype(np.float32)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 6).permute(2, 0, 1)[None].float()
    warped, inside = warp(one_hot, torch.from_numpy(flow)[None])
    top = warped[0].topk(2, 0).values
    clear = inside[0].numpy() & (top[0] - top[1] > 1e-3).numpy()
    assert clear.mean() > 0.8
    assert (temporal.warp_votes(labels, flow)[clear] == warped[0].argmax(0).numpy()[clear]).all()


def votes_by_hand(labels, by_x, by_y):
    """Each pixel's place in the other frame, its four neighbours there, and the class with the greatest weight of these."""
    height, width = labels.shape
    out = np.full(labels.shape, IGNORE)
    for y, x in np.ndindex(labels.shape):
        to_y, to_x = y + by_y, x + by_x
        if -0.5 <= to_y < height - 0.5 and -0.5 <= to_x < width - 0.5:
            votes = dict.fromkeys(range(256), 0.0)
            for row, column in np.ndindex(2, 2):
                row, column = row + int(np.floor(to_y)), column + int(np.floor(to_x))
                label = labels[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
                votes[int(label)] += (1 - abs(to_y - row)) * (1 - abs(to_x - column))
            out[y, x] = max(votes, key=lambda label: (votes[label], -label))
    return out


@pytest.mark.parametrize("by_y", [-1.25, -0.5, 0.0, 0.25, 0.5, 1.0])
def test_four_neighbours_vote_also_at_borders_and_the_smallest_wins_a_tie(by_y):
    labels = RNG.choice([0, 1, 2, 7, IGNORE], (12, 8)).astype(np.uint8)
    for by_x in (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.25):
        flow = np.empty((2, 12, 8), np.float32)
        flow[0], flow[1] = by_x, by_y
        assert (temporal.warp_votes(labels, flow) == votes_by_hand(labels, by_x, by_y)).all(), by_x


def test_ids_between_two_classes_are_a_third_one():
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 32:] = 13
    seam = {way: set(np.unique(warp(labels, constant(0.5)))) - {0, 13, IGNORE} for way, warp in temporal.WARPS.items()}
    assert seam == {
        "nearest": set(),
        "one-hot, bilinear, best class": set(),
        "ids, bilinear, rounded": {6},
        "ids, bilinear, cut (ETC's script)": {6},
    }


# ------------------------------------------------------------------------------------------------ ETC's released script


def released_script(pairs, classes):
    """tool/eval_tc.py retold: Resample2d on ids, a cast to uint8, histograms, mean over all classes. No numba, no shared code."""
    f32, sums = np.float32, np.zeros((2, classes))
    for now, later, flow in pairs:
        height, width = now.shape
        warped = np.zeros(now.shape, f32)
        for y, x in np.ndindex(height, width):
            xf, yf = f32(x) + flow[0, y, x], f32(y) + flow[1, y, x]
            alpha, beta = f32(xf - np.floor(xf)), f32(yf - np.floor(yf))
            xs = [max(min(int(np.floor(xf)) + d, width - 1), 0) for d in (0, 1)]
            ys = [max(min(int(np.floor(yf)) + d, height - 1), 0) for d in (0, 1)]
            a, b = float(alpha), float(beta)
            value = f32((1.0 - a) * (1.0 - b) * float(later[ys[0], xs[0]]))
            value = f32(value + f32(a * (1.0 - b) * float(later[ys[0], xs[1]])))
            value = f32(value + f32((1.0 - a) * b * float(later[ys[1], xs[0]])))
            warped[y, x] = f32(value + f32(alpha * beta) * f32(later[ys[1], xs[1]]))
        target, output = warped.astype(np.uint8).ravel(), now.ravel().copy()
        output[target == 255] = 255
        bins = np.arange(classes + 1)
        both = np.histogram(output[output == target], bins)[0]
        union = np.histogram(output, bins)[0] + np.histogram(target, bins)[0] - both
        sums += both, union
    return float(np.mean(sums[0] / (sums[1] + 1e-10)))


@pytest.mark.parametrize("classes", [19, 11])
def test_etc_compat_is_the_released_script_to_the_digit_official(classes):
    pairs = []
    for sigma in (0.0, 0.1, 3.0):
        labels = blobs(classes, (24, 40))
        later = np.roll(labels, 1, 1)
        later[0, :3], labels[5, 5] = IGNORE, IGNORE  # what void does there is part of its behaviour
        pairs.append((labels, later, RNG.normal(0, sigma, (2, 24, 40)).astype(np.float32)))
    beyond = RNG.integers(0, classes + 3, (2, 24, 40)).astype(np.uint8)  # ids K and more, and a border unlike what is beside it
    pairs.append((*beyond, RNG.normal(0, 3, (2, 24, 40)).astype(np.float32)))
    pairs.append((beyond[0], beyond[0], np.zeros((2, 24, 40), np.float32)))
    counts = [temporal.etc_compat(*pair, classes) for pair in pairs]
    ours = temporal.etc_score(sum(counts[1:], start=counts[0]))
    assert ours == pytest.approx(released_script(pairs, classes), abs=1e-12) and 0.1 < ours < 0.9


def test_a_tenth_of_a_pixel_spoils_a_perfect_model_for_the_script_only():
    labels, flow = blobs(), RNG.normal(0, 0.1, (2, *SHAPE)).astype(np.float32)
    scores = {way: segmentation.overlap(labels, warp(labels, flow), 19).miou() for way, warp in temporal.WARPS.items()}
    assert scores["nearest"] > 0.99 and scores["one-hot, bilinear, best class"] > 0.99
    assert scores["ids, bilinear, cut (ETC's script)"] < scores["ids, bilinear, rounded"] < 0.97
    assert temporal.etc_score(temporal.etc_compat(labels, labels, flow, 19)) < 0.9


# ------------------------------------------------------------------------------------------------ more than two frames


def test_chained_flow_goes_where_its_steps_go():
    steps = [constant(1, 0.25)] * 3 + [constant(-2, 0.25)]
    flow, alive = trajectories.chained(lambda t: (steps[t], EVERYTHING))(0, 4)
    inside = np.zeros(SHAPE, bool)
    inside[:47, :61] = True  # three to the right leaves the frame for a while, and that ends a trajectory
    assert (alive == inside).all()
    assert np.allclose(flow[0][alive], 1) and np.allclose(flow[1][alive], 1)


def test_chained_flow_is_visible_only_if_every_step_is():
    hidden = EVERYTHING.copy()
    hidden[10, 12] = False
    flow_of = trajectories.chained(lambda t: (constant(2), hidden if t == 1 else EVERYTHING))
    _, alive = flow_of(0, 2)
    assert not alive[10, 10] and alive[10, 9] and alive[10, 11]
    assert (flow_of(1, 1)[1] == hidden).all()


def test_what_is_hidden_on_the_way_stops_nobody_else():
    hidden = EVERYTHING.copy()
    hidden[10, 12] = False
    flow, alive = trajectories.chained(lambda t: (constant(2), hidden if t == 0 else EVERYTHING))(0, 3)
    assert (~alive[:, :58]).sum() == 1 and not alive[10, 12] and not alive[:, 58:].any()
    assert (flow[0][alive] == 6).all() and (flow[1][alive] == 0).all()


def window(answers, labels, flow=STILL, visible=EVERYTHING):
    """The share that a window of 8 frames gives."""
    followed = trajectories.Trajectories()
    shares = [followed.step(a, y, (flow, visible) if t else None) for t, (a, y) in enumerate(zip(answers, labels))]
    assert shares[:-1] == [segmentation.Share()] * 7
    return shares[-1]


def test_a_trajectory_is_right_only_if_it_always_is():
    labels = np.zeros((8, *SHAPE), np.uint8)
    answers = labels.copy()
    answers[3, 5, 5] = answers[7, 6, 6] = 1
    assert window(answers, labels) == segmentation.Share(labels[0].size - 2, labels[0].size)
    for wrong in (0, 2):  # steady and wrong is worth nothing, whichever class it is
        assert window(np.full_like(labels, wrong), labels + 1) == segmentation.Share(0, labels[0].size)


def test_trajectories_move_with_the_flow_and_end_where_the_truth_changes():
    x = np.arange(64)
    labels = np.stack([np.tile(x >= 20 + t, (48, 1)) for t in range(8)]).astype(np.uint8)
    assert window(labels, labels, constant(1)) == segmentation.Share(48 * 57, 48 * 57)  # seven columns leave the frame
    fixed = window(labels, labels)  # at rest, the pixels that the edge passes are no trajectory of one class
    assert fixed == segmentation.Share(48 * 57, 48 * 57)
    void = np.full_like(labels, IGNORE)
    assert window(labels, void) == segmentation.Share(0, 0)


BORDERS = {"left": (-3, 0), "right": (3, 0), "top": (0, -3), "bottom": (0, 3), "corner": (2, -3)}


@pytest.mark.parametrize("by", BORDERS.values(), ids=BORDERS)
def test_every_border_ends_a_trajectory_and_drops_a_pixel(by):
    """What starts in the `by` outermost columns and rows leaves; not one pixel more, not one less."""
    y, x = np.indices(SHAPE)
    stays = (x + by[0] >= 0) & (x + by[0] < 64) & (y + by[1] >= 0) & (y + by[1] < 48)
    labels = blobs()
    moved = np.roll(labels, by, (1, 0))
    assert ((temporal.warp_map(moved, constant(*by)) != IGNORE) == stays).all()
    assert (temporal.warp_map(moved, constant(*by))[stays] == labels[stays]).all()
    positions = trajectories.Positions(SHAPE)
    positions.advance(constant(*by), EVERYTHING)
    assert (positions.alive == stays).all() and (positions.flow()[:, stays] == np.array(by)[:, None]).all()
    counts = tc(labels, moved, constant(*by))
    assert counts.miou() == 1 and counts.labelled.sum() == stays.sum()
    votes = temporal.warp_votes(moved, constant(*by))
    assert ((votes != IGNORE) == stays).all() and (votes[stays] == labels[stays]).all()


def test_small_steps_add_up_and_take_the_flow_of_where_they_are():
    """0.3 + 0.3 pixels are nearer to the next pixel, whose flow is taken then."""
    steps = constant(0.3)
    onward = constant(0.0)
    onward[:, :, 11] = 5.0
    positions = trajectories.Positions(SHAPE)
    for _ in range(2):
        positions.advance(steps, EVERYTHING)
    positions.advance(onward, EVERYTHING)
    assert np.allclose(positions.flow()[:, 20, 10], (5.6, 5.0)) and np.allclose(positions.flow()[:, 20, 11], (0.6, 0.0))


def test_a_window_is_of_eight_frames_and_begins_anew_at_a_cut():
    labels = np.zeros((20, *SHAPE), np.uint8)

    def ends(cuts):
        followed = trajectories.Trajectories()
        shares = [followed.step(y, y, None if t in cuts else (STILL, EVERYTHING)) for t, y in enumerate(labels)]
        return [t for t, share in enumerate(shares) if share.counted()]

    assert ends(()) == [7, 15], "from where the first frame was reached is no matter"
    assert ends({0}) == [7, 15] and ends({0, 4}) == [11, 19] and ends({0, 8}) == [7, 15] and ends({0, 7}) == [14]


def test_a_new_window_forgets_the_old_one():
    labels = np.zeros((16, *SHAPE), np.uint8)
    answers = labels.copy()
    answers[5, :, :32] = 1
    labels[9:, :, 40:] = answers[9:, :, 40:] = 2
    followed = trajectories.Trajectories()
    shares = [followed.step(a, y, (STILL, EVERYTHING) if t else None) for t, (a, y) in enumerate(zip(answers, labels))]
    assert shares[7] == segmentation.Share(48 * 32, 48 * 64) and shares[15] == segmentation.Share(48 * 40, 48 * 40)


def test_vc_of_a_long_clip_counts_on():
    """A run is counted in eight bits: at frame 256 it must not begin anew."""
    still = np.zeros((300, 2, 2), np.uint8)
    found = trajectories.Windows()
    sums = [found.step(frame, frame) for frame in still]
    assert [step["vc8"].total for step in sums] == [0] * 7 + [1] * 293
    assert [step["vc16_right"].total for step in sums] == [0] * 15 + [1] * 285
    assert all(share.count == share.total for step in sums for share in step.values())


def published_vc(labels, answers, n, right=False):
    """VC_perclip.py retold: clips -> mean over all windows but the last; ours demands the right class, of what is not void."""
    found = []
    for truth, guess in zip(labels, answers, strict=True):
        for start in range(len(truth) - n):
            still = (truth[start : start + n] == truth[start]).all(0)
            steady = (guess[start : start + n] == guess[start]).all(0)
            if right:
                still &= truth[start] != IGNORE
                steady &= guess[start] == truth[start]
            found.append((still & steady).sum() / still.sum() if still.any() else np.nan)
    return float(np.nanmean(found))


def windows_of(answers, labels):
    sums = {}
    for guess, truth in zip(answers, labels, strict=True):
        seen = trajectories.Windows()
        for t in range(len(truth) - 1):
            for name, share in seen.step(guess[t], truth[t]).items():
                sums[name] = sums.get(name, segmentation.Share()) + share
    return {name: share.value() for name, share in sums.items()}


def test_vc_is_the_published_script_official():
    labels, answers = [], []
    for length in (30, 17, 9):
        truth = np.repeat(blobs(4)[None], length, 0)
        truth[length // 2 :, 20:30] = 2
        truth[:, :4] = IGNORE
        changes = RNG.random(truth.shape) < 0.02
        labels.append(truth)
        answers.append(np.where(changes, RNG.choice([0, 1, 2, 3, 5, IGNORE], truth.shape), truth).astype(np.uint8))
    found = windows_of(answers, labels)
    for n in (8, 16):
        assert found[f"vc{n}"] == pytest.approx(published_vc(labels, answers, n), abs=1e-12)
        assert found[f"vc{n}_right"] == pytest.approx(published_vc(labels, answers, n, right=True), abs=1e-12)
    assert found["vc16"] < found["vc8"] < 1


def test_a_steady_mistake_wins_vc_until_the_right_class_is_demanded():
    labels = np.zeros((20, *SHAPE), np.uint8)
    labels[:, :, 32:] = 1
    found = windows_of([np.zeros_like(labels)], [labels])
    assert found["vc8"] == found["vc16"] == 1 and found["vc8_right"] == found["vc16_right"] == 0.5


# ------------------------------------------------------------------------------------------------ what it costs


def test_the_measurement_names_every_part_and_adds_them_up(tmp_path):
    from tcseg.study.measurements.speed import metrics as cost

    table = cost.measure(tmp_path, quick=True).set_index("part")["ms"]
    assert (table > 0).all() and table.index[0] == cost.BUDGET
    assert table[cost.BUDGET] == pytest.approx(table.iloc[1:4].sum(), abs=0.01)
    assert table["everything, one flow"] == pytest.approx(table.iloc[1:-1].sum(), abs=0.01)
