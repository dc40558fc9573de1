"""Intervals cover what they claim, and refuse what they cannot say."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tcseg.metrics import intervals, seed_clip_effects
from tcseg.study.measurements.quality import coverage
from tcseg.study.measurements.quality.worlds import World

OVERLAP = ("intersection", "predicted", "labelled")


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
    assert intervals.paired_interval(counts, counts) == (0, 0, 0)


@pytest.mark.parametrize("clips", [20, 60])
def test_pairing_finds_what_two_intervals_cannot(clips):
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.1, 0.6, clips)  # clips differ much more than models
    a, b = share_counts(hard), share_counts(hard - 0.02)
    difference = intervals.paired_interval(a, b)
    assert difference.high < 0 < intervals.clip_interval(b).high - intervals.clip_interval(a).low
    assert difference.value == pytest.approx(-0.02, abs=1e-3)


@pytest.mark.parametrize("clips", [2, 3, 4, 24, 60])
@pytest.mark.parametrize("metric", ["miou", "tc", "flicker"])
def test_estimate_lies_in_its_interval_and_more_level_is_wider(clips, metric):
    (a,), (b,) = World(metric).split(np.random.default_rng(1), 1, clips)
    for narrow, wide in (
        (intervals.clip_interval(a, 0.8), intervals.clip_interval(a)),
        (intervals.paired_interval(a, b, 0.8), intervals.paired_interval(a, b)),
    ):
        assert wide.low <= narrow.low < narrow.value < narrow.high <= wide.high and wide.value == narrow.value


@pytest.mark.parametrize("clips", [3, 9, 29, 30, 31, 200])
def test_the_jackknife_of_a_mean_of_like_clips_is_students_t_at_every_number(clips):
    shares = np.linspace(0.2, 0.4, clips)  # no tails: all n-1 degrees of freedom
    interval = intervals.clip_interval({"count": shares, "total": np.ones(clips)})
    assert interval == pytest.approx(intervals.t_interval(shares), abs=1e-12)


def test_many_clips_bootstrap_and_t_agree():
    counts = overlap_counts(np.random.default_rng(3), 400)
    drawn = intervals.percentile_limits(0.0, intervals.metric_of(counts, intervals.clip_draws(400, 2000, 0)), 400)
    interval = intervals.clip_interval(counts)
    assert (drawn.high - drawn.low) / (interval.high - interval.low) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("clips", [4, 6, 30, 200])
def test_degrees_of_freedom_by_another_way(clips):
    values = np.random.default_rng(clips).lognormal(0, 1.5, clips)
    left_out = (values.sum() - values) / (clips - 1)  # of a mean, whose pseudo-values are the values
    found = intervals.jackknife(np.concatenate([[values.mean()], left_out]))
    of_the_variance = max(0.0, scipy_stats.kurtosis(values, bias=False)) / clips + 2 / (clips - 1)
    assert found.error == pytest.approx(scipy_stats.sem(values)) and found.correction == pytest.approx(0, abs=1e-9)
    assert found.df == pytest.approx(np.clip(2 / of_the_variance, 2, clips - 1)) and found.df < max(3, clips - 1)


def test_one_clip_that_carries_all_leaves_two_degrees_of_freedom():
    """Its kurtosis says fewer, which would be no interval any more."""
    for clips in (30, 200):
        values = np.r_[1.0, np.zeros(clips - 1)]
        found = intervals.jackknife(np.r_[values.mean(), (values.sum() - values) / (clips - 1)])
        assert 2 / (scipy_stats.kurtosis(values, bias=False) / clips + 2 / (clips - 1)) < 2 == found.df
    assert intervals.jackknife(np.array([0.5, 0.4, 0.6])).df == 1, "two clips have one"


def test_few_clips_that_carry_all_are_few_also_among_many_nearly_empty_ones():
    three = share_counts([0.2, 0.3, 0.45])
    crumbs = {"count": [*three["count"], *([1] * 40)], "total": [*three["total"], *([2] * 40)]}
    alone, among = intervals.clip_interval(three), intervals.clip_interval(crumbs)
    assert among.value == pytest.approx(alone.value, abs=0.01)
    assert among.high - among.low > 0.5 * (alone.high - alone.low)  # 0.37 with 42 degrees of freedom


def test_the_interval_reaches_as_far_as_the_corrected_value_does():
    """Squares of means are biased upwards by their variance, and the jackknife finds exactly that."""
    x = np.random.default_rng(0).uniform(0, 1, 12)
    left_out = np.concatenate([[x.mean()], (x.sum() - x) / 11]) ** 2
    found = intervals.jackknife(left_out)
    assert left_out[0] + found.correction == pytest.approx(x.mean() ** 2 - x.var(ddof=1) / 12)
    plain = intervals._over_units(lambda weights: (weights @ x) / weights.sum(1), 12, 0.95)
    squared = intervals._over_units(lambda weights: ((weights @ x) / weights.sum(1)) ** 2, 12, 0.95)
    half = scipy_stats.t.ppf(0.975, found.df) * found.error
    assert plain.high - plain.value == pytest.approx(plain.value - plain.low)
    assert squared.high - squared.value == pytest.approx(half)
    assert squared.value - squared.low == pytest.approx(half - found.correction) and found.correction < 0


def test_the_interval_of_a_share_ends_where_shares_do():
    interval = intervals.clip_interval(share_counts([0.2, 0.99, 1.0]))
    assert 0 <= interval.low < interval.value < interval.high == 1.0
    interval = intervals.clip_interval(share_counts([0.0, 0.01, 0.8]))
    assert interval.low == 0.0 < interval.value < interval.high <= 1


def test_one_cluster_has_no_interval():
    for units in ([0.3], [0.3] + [np.nan] * 40):  # nan: nothing counted
        counts = {"count": np.nan_to_num(units), "total": np.isfinite(units).astype(float)}
        for found in (
            intervals.clip_interval(counts),
            intervals.paired_interval({**counts, "count": 0 * counts["count"]}, counts),
            seed_clip_effects.effect([counts], [counts], lambda a, b: b)[:3],
            seed_clip_effects.hierarchical_bootstrap([counts], [counts], lambda a, b: b),
        ):
            assert found[0] == 0.3 and np.isnan(found[1]) and np.isnan(found[2])
        assert np.isnan(seed_clip_effects.effect([counts], [counts]).p)
    assert np.isnan(intervals.t_interval([0.5]).low)
    with pytest.raises(ValueError, match="empty"):
        intervals.t_interval([])
    with pytest.raises(ValueError, match="needs the same clips"):
        intervals.paired_interval(share_counts([0.1, 0.2]), share_counts([0.1]))


def test_t_interval_by_hand():
    interval = intervals.t_interval([1.0, 2.0, 3.0])
    assert interval.value == 2 and interval.high - 2 == pytest.approx(4.302653 / np.sqrt(3), abs=1e-5)
    assert intervals.t_interval([1.0, 3.0]) == pytest.approx((2, 2 - 12.706205, 2 + 12.706205), abs=1e-5), "of two seeds"


def test_nothing_counted_is_nan_and_not_zero():
    for nothing in ({"count": [0, 0], "total": [0, 0]}, dict.fromkeys(OVERLAP, np.zeros((3, 5)))):
        assert np.isnan(intervals.metric_of(nothing, np.ones((1, intervals.clips_in(nothing))))).all()
        assert intervals.counted_units(nothing) == 0 and np.isnan(intervals.clip_interval(nothing)).all()
        for block in (1, 2):
            assert np.isnan(seed_clip_effects.effect([nothing], [nothing], block=block)[:3]).all()
            assert np.isnan(seed_clip_effects.hierarchical_bootstrap([nothing], [nothing], block=block)).all()


# ------------------------------------------------------------------------------------------------ units


def diluted(counts, empty, rng):
    """The same counts with so many clips more in which nothing was counted, anywhere among them; the order is kept."""
    rows = intervals.clips_in(counts) + empty
    kept = np.sort(rng.permutation(rows)[: rows - empty])

    def spread(values):
        out = np.zeros((rows, *np.shape(values)[1:]))
        out[kept] = values
        return out

    return {name: spread(values) for name, values in counts.items()}


def everything(a, b, world, block=1):
    """Every number that is said of two models, a seed an entry."""
    return [
        *intervals.clip_interval(intervals.units([a[0]], block)[0]),
        *intervals.paired_interval(*intervals.units([a[0], b[0]], block)),
        *seed_clip_effects.effect(a, b, world.contrast, block)[:5],
        *seed_clip_effects.effect(a, b, world.contrast, block).seeds,
        *seed_clip_effects.effect(a[:1], b[:1], seed_clip_effects.gap_closed(0.97), block)[:5],
        *seed_clip_effects.hierarchical_bootstrap(a, b, world.contrast, block, draws=200),
    ]


@pytest.mark.parametrize("empty", [1, 40, 300])
@pytest.mark.parametrize("metric", ["miou", "tc", "flicker"])
@pytest.mark.parametrize("block", [1, 17])
def test_clips_in_which_nothing_was_counted_change_nothing(metric, empty, block):
    world = World(metric, spread=0.05, drift=0.8 if block > 1 else 0.0)
    a, b = world.split(np.random.default_rng(0), 3, 101 if block > 1 else 7)
    same = [[diluted(one, empty, np.random.default_rng(1)) for one in model] for model in (a, b)]
    assert everything(*same, world, block) == pytest.approx(everything(a, b, world, block), rel=1e-9)
    assert intervals.clips_in(same[0][0]) == intervals.clips_in(a[0]) + empty
    assert intervals.counted_units(same[0][0]) == intervals.counted_units(a[0])


def test_what_one_of_two_networks_counted_is_a_unit_of_both():
    """A clip with answers of one network alone says that they differ there."""
    a, b = (
        {name: np.array(values) for name, values in share_counts(s).items()} for s in ([0.2, 0.4, 0], [0.3, 0.4, 0.9])
    )
    a["total"][2] = 0
    assert intervals.counted(a).tolist() == [True, True, False] and intervals.counted_units(b) == 3
    assert intervals.clips_in(intervals.units([a, b])[0]) == 3 and intervals.clips_in(intervals.units([a])[0]) == 2
    assert np.isfinite(intervals.paired_interval(a, b)).all()


def test_clusters_are_summed_by_name():
    counts = overlap_counts(np.random.default_rng(0), 5)
    found = intervals.by_cluster(counts, ["b", "a", "b", "c", "a"])
    for name, values in counts.items():
        rows = np.array(values)
        assert found[name].tolist() == [(rows[1] + rows[4]).tolist(), (rows[0] + rows[2]).tolist(), rows[3].tolist()]
    own = intervals.by_cluster(counts, [f"city{i}" for i in range(5)])
    assert intervals.clip_interval(own) == intervals.clip_interval(counts)
    assert intervals.by_cluster(share_counts([0.1, 0.2]), ["a", "a"]) == {"count": [300], "total": [2000]}
    assert np.isnan(intervals.clip_interval(intervals.by_cluster(counts, ["a"] * 5)).low), (
        "one city says nothing of another"
    )
    for names in ("abcd", "abcdef"):
        with pytest.raises(ValueError, match=f"{len(names)} names for 5 clips"):
            intervals.by_cluster(counts, list(names))


def test_what_intervals_over_clips_of_few_cities_are_about():
    told = intervals.scope(["aachen"] * 3 + ["bonn"] * 2)
    assert told == "The intervals speak of other clips of these 2 cities, not of other cities."
    assert "of other clips of this one city, not of other cities." in intervals.scope(["a", "a"])
    assert intervals.scope(["a", "b", "c"]) == "" == intervals.scope([])


# ------------------------------------------------------------------------------------------------ one clip


def test_moving_blocks_are_runs_of_frames_and_miss_none():
    draws = intervals.block_draws(101, 17, 4000, seed=0)
    assert draws.shape == (4000, 101) and (draws.sum(1) == 102).all()
    assert set(np.unique(draws[:200])) <= set(range(7))
    jumps = np.abs(np.diff(draws, axis=1, prepend=0, append=0)).sum(1)
    assert (jumps <= 12).all()  # six blocks begin and end
    assert draws.mean(0)[40:60] == pytest.approx(6 * 17 / 85, rel=0.1)  # 85 places for a block, 17 hold a middle frame
    assert intervals.block_draws(5, 17, 3, 0).tolist() == [[1] * 5] * 3  # shorter than a block: the clip itself
    assert (draws[:, [0, -1]].mean(0) == pytest.approx(6 / 85, rel=0.2)), "one of 85 places has the first or the last frame"
    for block in (2, 17):
        assert (intervals.draws_of(101, block, 5, 3) == intervals.block_draws(101, block, 5, 3)).all()
    assert (intervals.draws_of(101, 1, 5, 3) == intervals.clip_draws(101, 5, 3)).all()
    drawn = intervals.clip_draws(7, 4000, 0)
    assert (drawn.sum(1) == 7).all() and drawn.mean(0) == pytest.approx(1, rel=0.1)


def test_blocks_side_by_side_keep_all_counts():
    counts = overlap_counts(np.random.default_rng(0), 101)
    blocks = intervals.in_blocks(counts, 17)
    assert intervals.clips_in(blocks) == 6
    assert blocks["labelled"].sum(0).tolist() == np.sum(counts["labelled"], 0).tolist()
    assert [intervals.clips_in(intervals.units([counts], length)[0]) for length in (1, 2, 3, 50)] == [101, 50, 34, 2]
    assert blocks["labelled"][0].tolist() == np.sum(counts["labelled"][:17], 0).tolist(), "from the first frame on"
    assert intervals.clips_in(intervals.in_blocks(counts, 1)) == 101 and intervals.clips_in(intervals.in_blocks(counts, 500)) == 1


# ------------------------------------------------------------------------------------------------ many comparisons


def test_holm_by_hand():
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.5, np.nan, 0.9])[1] != intervals.holm([0.5, np.nan, 0.9])[1]
    assert intervals.holm([0.5, np.nan, 0.9])[[0, 2]] == pytest.approx([1, 1])
    assert intervals.holm([]).size == 0 and intervals.holm([0.9, 0.8]).tolist() == [1, 1]


def test_holm_rarely_finds_what_is_not_there():
    p = np.random.default_rng(0).random((3000, 12))
    found = np.array([(intervals.holm(row) < 0.05).any() for row in p]).mean()
    assert 0.035 < found < 0.065 and ((p < 0.05).any(1)).mean() > 0.4


# ------------------------------------------------------------------------------------------------ seeds x clips


def table_counts(table, base=0.5):
    """Models a, b whose difference in seed s and clip c is table[s, c]."""
    rows = [{"count": base + row, "total": np.ones(len(row))} for row in np.asarray(table)]
    return [{"count": np.full(len(rows[0]["count"]), base), "total": rows[0]["total"]}] * len(rows), rows


def test_one_seed_is_the_interval_over_clips():
    (a,), (b,) = World("tc").split(np.random.default_rng(0), 1, 24)
    found = seed_clip_effects.effect([a], [b])
    assert found.value - found.low != pytest.approx(found.high - found.value)  # the bias is on one side
    assert found[:3] == pytest.approx(intervals.paired_interval(a, b))
    assert np.isnan(found.seeds.low) and 0 < found.p < 1


def test_the_legs_by_hand():
    rng = np.random.default_rng(4)
    table = 0.1 + rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 0.02, (1, 12)) + rng.normal(0, 0.005, (4, 12))
    rows, columns = table.mean(1), table.mean(0)
    rest = ((table - rows[:, None] - columns + table.mean()) ** 2).sum() / 33 / 48
    t = scipy_stats.t.ppf(0.975, [3, 11])
    legs = t**2 * [rows.var(ddof=1) / 4, columns.var(ddof=1) / 12 - rest]
    found = seed_clip_effects.effect(*table_counts(table))
    assert found.value == pytest.approx(table.mean()) and found.seeds == pytest.approx(intervals.t_interval(rows))
    assert found.high - found.value == pytest.approx(np.sqrt(legs.sum()))
    assert found.low < found.seeds.low  # other clips add to what seeds show
    t = scipy_stats.t.ppf(0.975, [3, 11]) + scipy_stats.t.ppf(0.8, [3, 11])
    assert found.mdd == pytest.approx(np.sqrt((t**2 * [rows.var(ddof=1) / 4, columns.var(ddof=1) / 12 - rest]).sum()))


def test_p_is_the_level_whose_interval_touches_zero():
    table = 0.02 + np.random.default_rng(5).normal(0, 0.03, (3, 10))
    found = seed_clip_effects.effect(*table_counts(table))
    assert 0.001 < found.p < 0.5
    touching = seed_clip_effects.effect(*table_counts(table), level=1 - found.p)
    assert touching.low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_p_and_interval_agree_where_the_bias_is_on_one_side(seeds, turned):
    a, b = World("tc", spread=0.05).split(np.random.default_rng(5), seeds, 8)
    a, b = (b, a) if turned else (a, b)
    found = seed_clip_effects.effect(a, b)
    assert 1e-6 < found.p < 0.9
    touching = seed_clip_effects.effect(a, b, level=1 - found.p)
    assert (touching.high if found.value < 0 else touching.low) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("sign", [1, -1])
def test_p_and_interval_agree_where_the_bias_is_away_from_zero(sign):
    """A difference of squares is too large by its variance: the interval reaches further toward zero, and so does p."""
    table = 0.06 + np.random.default_rng(1).normal(0, 0.06, (2, 6))

    def contrast(a, b):
        return sign * (b - a) ** 2

    found = seed_clip_effects.effect(*table_counts(table), contrast)
    toward, away = sorted((found.value - found.low, found.high - found.value), reverse=True)
    assert toward > 1.05 * away and (toward == found.value - found.low) == (sign > 0)
    assert 1e-4 < found.p < 0.9
    touching = seed_clip_effects.effect(*table_counts(table), contrast, level=1 - found.p)
    assert (touching.low if sign > 0 else touching.high) == pytest.approx(0, abs=1e-9)
    turned = seed_clip_effects.effect(*table_counts(table), lambda a, b: -contrast(a, b))
    assert found.mdd == pytest.approx(turned.mdd), "what is detectable does not know the side of the bias"


@pytest.mark.parametrize("clips", [4, 12, 200])
def test_p_of_one_seed_is_that_of_a_t_test_oracle(clips):
    row = np.random.default_rng(clips).uniform(-0.05, 0.06, clips)  # no tails: all degrees of freedom
    for table in (row, -row):
        found = seed_clip_effects.effect(*table_counts([table]))
        assert found.p == pytest.approx(scipy_stats.ttest_1samp(table, 0).pvalue)


def test_an_effect_that_is_nothing_but_bias_is_p_one():
    table = np.random.default_rng(1).normal(0, 0.06, (1, 6))
    found = seed_clip_effects.effect(*table_counts(table - table.mean() + 0.001), lambda a, b: (b - a) ** 2)
    assert found.p == 1 and found.low < 0 < found.value


def test_no_interval_no_p():
    spread = seed_clip_effects._spread(
        *table_counts(np.random.default_rng(0).normal(0.2, 0.1, (2, 5))), seed_clip_effects.difference
    )[1]
    assert seed_clip_effects._p_value(0.2, spread) < 1
    for broken in (spread._replace(clips=float("nan")), spread._replace(seeds=float("nan"))):
        assert np.isnan(seed_clip_effects._p_value(0.2, broken)), "nothing is as sure as what cannot be computed"


def test_never_surer_than_over_clips_alone():
    table = np.random.default_rng(6).uniform(-0.1, 0.1, (2, 24))  # no tails: all degrees of freedom
    table[1] += table[0].mean() - table[1].mean()  # two seeds that happen to agree
    found, over_clips = seed_clip_effects.effect(*table_counts(table)), intervals.t_interval(table.mean(0))
    assert found.high - found.value == pytest.approx(over_clips.high - over_clips.value)


def test_nothing_changes_is_p_one_and_a_sure_change_is_small():
    same = seed_clip_effects.effect(*table_counts(np.zeros((2, 4))))
    assert same[:4] == (0, 0, 0, 1) and same.mdd == 0
    for seeds in (1, 2):
        assert seed_clip_effects.effect(*table_counts(np.full((seeds, 4), 0.25))).p == 0  # the same in every seed and clip
    assert seed_clip_effects.effect(*table_counts([[0.25, 0.2500001]] * 2)).p < 1e-3
    for share in (0.2, 0.3):  # the same in every clip: what is not known is the seeds' spread
        other = seed_clip_effects.effect(*table_counts([[share] * 4, [0.25] * 4]))
        assert other.p == pytest.approx(2 * scipy_stats.t.sf((share + 0.25) / abs(share - 0.25), 1))
    surest = seed_clip_effects.effect(*table_counts(0.25 + np.random.default_rng(0).normal(0, 1e-9, (1, 100))))
    assert surest.p == 1e-15, "what floats can tell"


def test_contrasts_by_hand():
    a, b = np.array([0.0, 0.2, 0.5, 0.8]), np.array([0.1, 0.3, 0.4, 0.8])
    assert seed_clip_effects.difference(a, b) == pytest.approx([0.1, 0.1, -0.1, 0.0])
    assert seed_clip_effects.relative(a, b) == pytest.approx([np.nan, 0.5, -0.2, 0.0], nan_ok=True), "nothing has no share"
    closed = seed_clip_effects.gap_closed(0.5)(a, b)
    assert closed == pytest.approx([0.2, 1 / 3, np.nan, np.nan], nan_ok=True), "at the ceiling and above it is no gap"


def test_ratios_are_taken_as_ratios():
    a, b = share_counts([0.10, 0.20, 0.30]), share_counts([0.05, 0.10, 0.15])
    assert seed_clip_effects.effect([a], [b], seed_clip_effects.relative)[:3] == pytest.approx((-0.5, -0.5, -0.5))
    assert (
        seed_clip_effects.effect([a], [b], seed_clip_effects.gap_closed(0.0)).value
        != seed_clip_effects.effect([a], [b], seed_clip_effects.gap_closed(0.9)).value
    )
    assert seed_clip_effects.effect([b], [a], seed_clip_effects.gap_closed(0.3)).value == pytest.approx(
        0.5
    )  # 0.1 -> 0.2 of 0.3
    assert np.isnan(
        seed_clip_effects.effect(
            [share_counts([0, 0])], [b | {"count": [1, 1], "total": [9, 9]}], seed_clip_effects.relative
        ).p
    )


def test_seeds_and_clips_must_be_paired():
    a = share_counts([0.1, 0.2])
    with pytest.raises(ValueError, match="a has 2 seeds and b has 1"):
        seed_clip_effects.effect([a, a], [a])
    with pytest.raises(ValueError, match="a has 1 seeds and b has 2"):
        seed_clip_effects.effect([a], [a, a])
    with pytest.raises(ValueError, match="a has 0 seeds"):
        seed_clip_effects.effect([], [])
    with pytest.raises(ValueError, match="needs the same clips"):
        seed_clip_effects.effect([a], [share_counts([0.1])])
    lonely = seed_clip_effects.effect([share_counts([0.1])], [share_counts([0.2])])
    assert lonely.value == pytest.approx(0.1) and np.isnan([lonely.low, lonely.high, lonely.p, lonely.mdd]).all()


def test_bootstrap_and_jackknife_agree_over_many_clips():
    pair = World("miou", spread=0.05).split(np.random.default_rng(0), 3, 100)
    t, drawn = seed_clip_effects.effect(*pair), seed_clip_effects.hierarchical_bootstrap(*pair)
    assert drawn.value == t.value
    assert (drawn.high - drawn.low) / (t.high - t.low) == pytest.approx(1, abs=0.1)


def test_the_bootstrap_by_hand():
    """Both models and all seeds meet the same draws; the leg of seeds is added to each side's own leg of clips."""
    rng = np.random.default_rng(4)
    table = rng.normal(0, 0.02, (3, 1)) + rng.gamma(1, 0.03, (1, 10)) + rng.normal(0, 0.01, (3, 10))
    a, b = table_counts(table)
    weights = intervals.clip_draws(10, 400, 3)
    one = seed_clip_effects.hierarchical_bootstrap(a[:1], b[:1], draws=400, seed=3)
    assert one == pytest.approx(intervals.percentile_limits(table[0].mean(), weights @ table[0] / 10, 10))
    rows, columns = table.mean(1), table.mean(0)
    rest = ((table - rows[:, None] - columns + table.mean()) ** 2).sum() / 18 / 30
    own = 1 - rest / (columns.var(ddof=1) / 10)
    for level in (0.95, 0.8):
        middle = intervals.percentile_limits(table.mean(), weights @ columns / 10, 10, level)
        seeds = scipy_stats.t.ppf((1 + level) / 2, 2) * rows.std(ddof=1) / np.sqrt(3)
        down, up = (np.hypot(np.sqrt(own) * leg, seeds) for leg in (middle.value - middle.low, middle.high - middle.value))
        found = seed_clip_effects.hierarchical_bootstrap(a, b, draws=400, seed=3, level=level)
        assert found == pytest.approx((table.mean(), table.mean() - down, table.mean() + up))
    assert np.isfinite(seed_clip_effects.hierarchical_bootstrap(*table_counts(table[:, :2]), draws=50)).all(), "of two clips"


@pytest.mark.parametrize("clusters", [2, 3, 12])
def test_percentiles_are_widened_to_the_t_of_few_clusters(clusters):
    """Of draws that are normal: the interval is sqrt(n/(n-1)) times that of Student's t."""
    drawn = 0.4 + 0.01 * scipy_stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    for level in (0.5, 0.8):
        found = intervals.percentile_limits(0.4, drawn, clusters, level)
        half = 0.01 * np.sqrt(clusters / (clusters - 1)) * scipy_stats.t.ppf((1 + level) / 2, clusters - 1)
        assert found == pytest.approx((0.4, 0.4 - half, 0.4 + half), abs=half / 100)
    assert np.isnan(intervals.percentile_limits(0.4, drawn, 1)[1:]).all()


def test_frames_of_one_clip_are_not_clips():
    pair = World("flicker", drift=0.9).split(np.random.default_rng(0), 1, 101)
    width = {block: np.ptp(seed_clip_effects.effect(*pair, block=block)[1:3]) for block in (1, 17)}
    moving = seed_clip_effects.hierarchical_bootstrap(*pair, block=17)
    assert width[17] > 1.5 * width[1] and moving.high - moving.low > 1.5 * width[1]


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.01, (1000, 1, 12)) + rng.normal(0, 0.02, (1000, 1, 12))
    mdd = np.sqrt(np.mean([seed_clip_effects.effect(*table_counts(one)).mdd ** 2 for one in noise]))
    found = np.mean([seed_clip_effects.effect(*table_counts(one + mdd)).p < 0.05 for one in noise])
    assert found == pytest.approx(0.8, abs=0.04)


# ------------------------------------------------------------------------------------------------ coverage


@pytest.mark.parametrize(("seeds", "clips"), [(1, 6), (1, 24), (3, 12)])
def test_intervals_cover(seeds, clips):
    """A small version of `tcseg measure coverage`: 95 % of the intervals hold the truth, of relative flicker."""
    world = World("flicker", 0.05 if seeds > 1 else 0.0)
    *_, truth = world.truth(np.random.default_rng(99), 10)
    rng = np.random.default_rng(8)
    found = [seed_clip_effects.effect(*world.split(rng, seeds, clips), world.contrast) for _ in range(1000)]
    inside = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 <= inside <= 0.985


def test_at_thirty_clips_intervals_of_tc_cover_where_percentiles_and_the_plain_t_do_not():
    world, rng = World("tc"), np.random.default_rng(8)
    truth = world.truth(np.random.default_rng(99), 20)
    inside: dict[tuple[str, str], list[bool]] = {}
    for trial in range(300):
        for models, limits in coverage.over_clips(world, world.split(rng, 1, 30), trial, draws=300):
            right = truth[coverage.MODELS.index(models)]
            for method, (low, high) in limits.items():
                inside.setdefault((models, method), []).append(low <= right <= high)
    held = {key: np.mean(found) for key, found in inside.items()}
    for models in ("base", "pair"):
        assert 0.92 < held[models, coverage.OURS["clips"]] < 0.985
        assert held[models, "percentile, widened"] < 0.9
        assert held[models, "jackknife t"] < held[models, coverage.OURS["clips"]]


@pytest.mark.slow
def test_the_measurement_shows_what_is_too_narrow(tmp_path):
    table = coverage.measure(tmp_path, quick=True).set_index(["metric", "method", "models", "clusters"])
    assert table.index.is_unique and table[["coverage", "width"]].notna().all(axis=None)
    assert ((table["coverage_low"] < table["coverage"]) & (table["coverage"] < table["coverage_high"])).mean() > 0.8
    miou = table.loc["miou"]["coverage"]
    assert miou["naive: seeds and clips drawn", "pair", 6] < 0.88 < miou["seeds x clips, jackknife t", "pair", 6]
    assert miou["frames as if independent", "pair", 6] < 0.75 < miou["blocks, jackknife t", "pair", 6]
    wide = table["width"].unstack("method")
    assert (wide["cities as units"] / wide["clips as if independent"]).median() > 1.05
