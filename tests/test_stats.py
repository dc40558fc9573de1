"""Intervals cover what they claim, and refuse what they cannot say."""

import numpy as np
import pytest

from tcseg import stats


def share_counts(shares, total=1000):
    return {"count": [round(s * total) for s in shares], "total": [total] * len(shares)}


def overlap_counts(rng, clips=24, quality=0.6):
    labelled = rng.integers(200, 400, (clips, 5))
    hit = (labelled * rng.normal(quality, 0.05, (clips, 1)).clip(0, 1)).astype(int)
    return {"intersection": hit.tolist(), "predicted": labelled.tolist(), "labelled": labelled.tolist()}


def test_a_model_against_itself_differs_by_nothing():
    counts = overlap_counts(np.random.default_rng(0))
    assert stats.paired_bootstrap(counts, counts) == (0, 0, 0)


def test_pairing_finds_what_two_intervals_cannot():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.1, 0.6, 20)  # clips differ much more than models
    a, b = share_counts(hard), share_counts(hard - 0.02)
    difference = stats.paired_bootstrap(a, b)
    assert difference.high < 0 < stats.bootstrap_interval(b).high - stats.bootstrap_interval(a).low
    assert difference.value == pytest.approx(-0.02, abs=1e-3)


def test_estimate_lies_in_its_interval_and_the_seed_decides():
    counts = overlap_counts(np.random.default_rng(1))
    interval = stats.bootstrap_interval(counts, seed=3)
    assert interval.low < interval.value < interval.high
    assert stats.bootstrap_interval(counts, seed=3) == interval


def test_one_cluster_has_no_interval():
    interval = stats.bootstrap_interval(share_counts([0.3]))
    assert interval.value == 0.3 and np.isnan(interval.low) and np.isnan(interval.high)
    assert np.isnan(stats.t_interval([0.5]).low)
    with pytest.raises(ValueError, match="empty"):
        stats.t_interval([])
    with pytest.raises(ValueError, match="needs the same clips"):
        stats.paired_bootstrap(share_counts([0.1, 0.2]), share_counts([0.1]))


def test_t_interval_by_hand():
    interval = stats.t_interval([1.0, 2.0, 3.0])
    assert interval.value == 2 and interval.high - 2 == pytest.approx(4.302653 / np.sqrt(3), abs=1e-5)


def test_bootstrap_covers_the_truth_of_few_clips():
    rng = np.random.default_rng(5)
    inside = 0
    for trial in range(200):
        interval = stats.bootstrap_interval(share_counts(rng.normal(0.3, 0.05, 12)), draws=400, seed=trial)
        inside += interval.low <= 0.3 <= interval.high
    assert 0.90 <= inside / 200 <= 0.99
