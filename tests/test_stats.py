"""Intervals cover what they claim, and refuse what they cannot say."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tcseg import crossed, stats
from tcseg.measurements import coverage
from tcseg.measurements.worlds import World


def share_counts(shares, total=1000):
    return {"count": [round(s * total) for s in shares], "total": [total] * len(shares)}


def overlap_counts(rng, clips=24, quality=0.6):
    labelled = rng.integers(200, 400, (clips, 5))
    hit = (labelled * rng.normal(quality, 0.05, (clips, 1)).clip(0, 1)).astype(int)
    return {"intersection": hit.tolist(), "predicted": labelled.tolist(), "labelled": labelled.tolist()}


# ------------------------------------------------------------------------------------------------ over clips


@pytest.mark.parametrize("clips", [8, 40])
def test_a_model_against_itself_differs_by_nothing(clips):
    counts = overlap_counts(np.random.default_rng(0), clips)
    assert stats.paired_interval(counts, counts) == (0, 0, 0)


@pytest.mark.parametrize("clips", [20, 60])
def test_pairing_finds_what_two_intervals_cannot(clips):
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.1, 0.6, clips)  # clips differ much more than models
    a, b = share_counts(hard), share_counts(hard - 0.02)
    difference = stats.paired_interval(a, b)
    assert difference.high < 0 < stats.clip_interval(b).high - stats.clip_interval(a).low
    assert difference.value == pytest.approx(-0.02, abs=1e-3)


@pytest.mark.parametrize("clips", [24, 60])
def test_estimate_lies_in_its_interval_and_the_seed_decides(clips):
    counts = overlap_counts(np.random.default_rng(1), clips)
    interval = stats.clip_interval(counts, seed=3)
    assert interval.low < interval.value < interval.high
    assert stats.clip_interval(counts, seed=3) == interval


def test_the_jackknife_of_a_mean_is_students_t():
    shares = np.random.default_rng(2).normal(0.3, 0.05, 9)
    shares = np.array(share_counts(shares)["count"]) / 1000
    assert stats.clip_interval(share_counts(shares)) == pytest.approx(stats.t_interval(shares), abs=1e-12)


def test_many_clips_bootstrap_and_t_agree():
    counts = overlap_counts(np.random.default_rng(3), 400)
    drawn = stats.clip_interval(counts)
    left_out = stats.metric_of(counts, stats.all_and_each_left_out(400))[1:]
    error = np.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    assert (drawn.high - drawn.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.06)


def test_the_interval_of_a_share_ends_where_shares_do():
    interval = stats.clip_interval(share_counts([0.2, 0.99, 1.0]))
    assert 0 <= interval.low < interval.value < interval.high == 1.0


def test_one_cluster_has_no_interval():
    interval = stats.clip_interval(share_counts([0.3]))
    assert interval.value == 0.3 and np.isnan(interval.low) and np.isnan(interval.high)
    assert np.isnan(stats.t_interval([0.5]).low)
    with pytest.raises(ValueError, match="empty"):
        stats.t_interval([])
    with pytest.raises(ValueError, match="needs the same clips"):
        stats.paired_interval(share_counts([0.1, 0.2]), share_counts([0.1]))


def test_t_interval_by_hand():
    interval = stats.t_interval([1.0, 2.0, 3.0])
    assert interval.value == 2 and interval.high - 2 == pytest.approx(4.302653 / np.sqrt(3), abs=1e-5)


def test_nothing_counted_is_nan_and_not_zero():
    assert np.isnan(stats.metric_of({"count": [0, 0], "total": [0, 0]}, np.ones((1, 2)))).all()


# ------------------------------------------------------------------------------------------------ one clip


def test_moving_blocks_are_runs_of_frames_and_miss_none():
    draws = stats.block_draws(101, 17, 4000, seed=0)
    assert draws.shape == (4000, 101) and (draws.sum(1) == 102).all()
    assert set(np.unique(draws[:200])) <= set(range(7))
    jumps = np.abs(np.diff(draws, axis=1, prepend=0, append=0)).sum(1)
    assert (jumps <= 12).all()  # six blocks begin and end
    assert draws.mean(0)[40:60] == pytest.approx(6 * 17 / 85, rel=0.1)  # 85 places for a block, 17 hold a middle frame
    assert stats.block_draws(5, 17, 3, 0).tolist() == [[1] * 5] * 3  # shorter than a block: the clip itself


def test_blocks_side_by_side_keep_all_counts():
    counts = overlap_counts(np.random.default_rng(0), 101)
    blocks = stats.in_blocks(counts, 17)
    assert stats.clips_in(blocks) == 6
    assert blocks["labelled"].sum(0).tolist() == np.sum(counts["labelled"], 0).tolist()
    assert stats.clips_in(stats.in_blocks(counts, 1)) == 101 and stats.clips_in(stats.in_blocks(counts, 500)) == 1


# ------------------------------------------------------------------------------------------------ many comparisons


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, np.nan, 0.9])[1] != stats.holm([0.5, np.nan, 0.9])[1]
    assert stats.holm([0.5, np.nan, 0.9])[[0, 2]] == pytest.approx([1, 1])
    assert stats.holm([]).size == 0


def test_holm_rarely_finds_what_is_not_there():
    p = np.random.default_rng(0).random((3000, 12))
    found = np.array([(stats.holm(row) < 0.05).any() for row in p]).mean()
    assert 0.035 < found < 0.065 and ((p < 0.05).any(1)).mean() > 0.4


# ------------------------------------------------------------------------------------------------ seeds x clips


def table_counts(table, base=0.5):
    """Models a, b whose difference in seed s and clip c is table[s, c]."""
    rows = [{"count": base + row, "total": np.ones(len(row))} for row in np.asarray(table)]
    return [{"count": np.full(len(rows[0]["count"]), base), "total": rows[0]["total"]}] * len(rows), rows


def test_one_seed_is_the_interval_over_clips():
    a, b = overlap_counts(np.random.default_rng(0)), overlap_counts(np.random.default_rng(1))
    found = crossed.effect([a], [b])
    assert found[:3] == pytest.approx(stats.paired_interval(a, b))
    assert np.isnan(found.seeds.low) and 0 < found.p < 1


def test_the_legs_by_hand():
    rng = np.random.default_rng(4)
    table = 0.1 + rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 0.02, (1, 12)) + rng.normal(0, 0.005, (4, 12))
    rows, columns = table.mean(1), table.mean(0)
    rest = ((table - rows[:, None] - columns + table.mean()) ** 2).sum() / 33 / 48
    t = scipy_stats.t.ppf(0.975, [3, 11])
    legs = t**2 * [rows.var(ddof=1) / 4, columns.var(ddof=1) / 12 - rest]
    found = crossed.effect(*table_counts(table))
    assert found.value == pytest.approx(table.mean()) and found.seeds == pytest.approx(stats.t_interval(rows))
    assert found.high - found.value == pytest.approx(np.sqrt(legs.sum()))
    assert found.low < found.seeds.low  # other clips add to what seeds show


def test_p_is_the_level_whose_interval_touches_zero():
    table = 0.02 + np.random.default_rng(5).normal(0, 0.03, (3, 10))
    found = crossed.effect(*table_counts(table))
    assert 0.001 < found.p < 0.5
    touching = crossed.effect(*table_counts(table), level=1 - found.p)
    assert touching.low == pytest.approx(0, abs=1e-9)


def test_no_interval_no_p():
    spread = crossed._spread(*table_counts(np.random.default_rng(0).normal(0.2, 0.1, (2, 5))), crossed.difference, 1)[1]
    assert crossed._p_value(0.2, spread) < 1
    for broken in (spread._replace(clips=float("nan")), spread._replace(seeds=float("nan"))):
        assert np.isnan(crossed._p_value(0.2, broken)), "nothing is as sure as what cannot be computed"


def test_never_surer_than_over_clips_alone():
    table = np.random.default_rng(6).normal(0, 0.05, (2, 24))
    table[1] += table[0].mean() - table[1].mean()  # two seeds that happen to agree
    found, over_clips = crossed.effect(*table_counts(table)), stats.t_interval(table.mean(0))
    assert found.high - found.value == pytest.approx(over_clips.high - over_clips.value)


def test_nothing_changes_is_p_one_and_a_sure_change_is_small():
    same = crossed.effect(*table_counts(np.zeros((2, 4))))
    assert same[:4] == (0, 0, 0, 1) and same.mdd == 0
    assert crossed.effect(*table_counts(np.full((2, 4), 0.25))).p == 0  # the same in every seed and clip
    assert crossed.effect(*table_counts([[0.25, 0.2500001]] * 2)).p < 1e-3


def test_ratios_are_taken_as_ratios():
    a, b = share_counts([0.10, 0.20, 0.30]), share_counts([0.05, 0.10, 0.15])
    assert crossed.effect([a], [b], crossed.relative)[:3] == pytest.approx((-0.5, -0.5, -0.5))
    assert (
        crossed.effect([a], [b], crossed.gap_closed(0.0)).value
        != crossed.effect([a], [b], crossed.gap_closed(0.9)).value
    )
    assert crossed.effect([b], [a], crossed.gap_closed(0.3)).value == pytest.approx(0.5)  # 0.1 -> 0.2 of 0.3
    assert np.isnan(
        crossed.effect([share_counts([0, 0])], [b | {"count": [1, 1], "total": [9, 9]}], crossed.relative).p
    )


def test_seeds_and_clips_must_be_paired():
    a = share_counts([0.1, 0.2])
    with pytest.raises(ValueError, match="a has 2 seeds and b 1"):
        crossed.effect([a, a], [a])
    with pytest.raises(ValueError, match="a has 0 seeds"):
        crossed.effect([], [])
    with pytest.raises(ValueError, match="needs the same clips"):
        crossed.effect([a], [share_counts([0.1])])
    lonely = crossed.effect([share_counts([0.1])], [share_counts([0.2])])
    assert lonely.value == pytest.approx(0.1) and np.isnan([lonely.low, lonely.high, lonely.p, lonely.mdd]).all()


def test_bootstrap_and_jackknife_agree_over_many_clips():
    pair = World("miou", spread=0.05).split(np.random.default_rng(0), 3, 100)
    t, drawn = crossed.effect(*pair), crossed.hierarchical_bootstrap(*pair)
    assert drawn.value == t.value
    assert (drawn.high - drawn.low) / (t.high - t.low) == pytest.approx(1, abs=0.1)


def test_frames_of_one_clip_are_not_clips():
    pair = World("flicker", drift=0.9).split(np.random.default_rng(0), 1, 101)
    width = {block: np.ptp(crossed.effect(*pair, block=block)[1:3]) for block in (1, 17)}
    moving = crossed.hierarchical_bootstrap(*pair, block=17)
    assert width[17] > 1.5 * width[1] and moving.high - moving.low > 1.5 * width[1]


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.01, (1500, 1, 12)) + rng.normal(0, 0.02, (1500, 1, 12))
    mdd = np.sqrt(np.mean([crossed.effect(*table_counts(one)).mdd ** 2 for one in noise]))
    found = np.mean([crossed.effect(*table_counts(one + mdd)).p < 0.05 for one in noise])
    assert found == pytest.approx(0.8, abs=0.04)


# ------------------------------------------------------------------------------------------------ coverage


@pytest.mark.parametrize(("seeds", "clips"), [(1, 6), (1, 24), (3, 12)])
def test_intervals_cover(seeds, clips):
    """A small version of `tcseg measure coverage`: 95 % of the intervals hold the truth, of relative flicker."""
    world = World("flicker", 0.05 if seeds > 1 else 0.0)
    truth = world.truth(np.random.default_rng(99), 10)
    rng = np.random.default_rng(8)
    found = [crossed.effect(*world.split(rng, seeds, clips), world.contrast) for _ in range(1000)]
    inside = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 <= inside <= 0.985


def test_the_measurement_shows_what_is_too_narrow(tmp_path):
    table = coverage.measure(tmp_path, quick=True).set_index(["metric", "method", "clusters"])
    assert table.index.is_unique and table[["coverage", "width"]].notna().all(axis=None)
    assert ((table["coverage_low"] < table["coverage"]) & (table["coverage"] < table["coverage_high"])).mean() > 0.9
    miou = table.loc["miou"]["coverage"]
    assert miou["naive: seeds and clips drawn", 6] < 0.88 < miou["seeds x clips, jackknife t", 6]
    assert miou["frames as if independent", 6] < 0.75 < miou["blocks, jackknife t", 6]
