"""Selection of the student: accuracy of candidates and peers after each training length, with their latency.

They are trained by `sweeps` at profile `bench` and timed by `measurements.speeds`; here the two meet.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.peers import PEERS
from tcseg.models.students import CHOSEN
from tcseg.study.comparisons import effects
from tcseg.study.recipes import NETWORK_LENGTHS
from tcseg.study.runs import Run
from tcseg.study.study import Study


def trained(study: Study, arch: str) -> dict[float, list[Run]]:
    """The runs of a network at profile `bench` by how many times the profile's steps; lengths without runs are left out."""
    base = "student" if arch == "student" else f"student,arch={arch}"
    names = {times: base + (f",steps={times:g}x" if times != 1 else "") for times in NETWORK_LENGTHS}
    return {times: runs for times, name in names.items() if (runs := study.finished_runs(name))}


def best(by_length: dict[float, list[Run]]) -> list[Run]:
    """The runs of the length that beats the most others in mIoU, two lengths at a time on the seeds that both have, if any."""

    def wins(runs: list[Run]) -> tuple[int, float]:
        against = [_gain(other, runs) for other in by_length.values() if other is not runs]
        return sum(gain > 0 for gain in against), _means(runs)["miou"]

    return max(by_length.values(), key=wins, default=[])


def _gain(before: list[Run], after: list[Run]) -> float:
    """How much more mIoU `after` has: the mean over the seeds that both have; between their own means where they share none."""
    short, long = ({run.seed: run.metrics["miou"] for run in runs} for runs in (before, after))
    if not (shared := short.keys() & long.keys()):
        return _means(after)["miou"] - _means(before)["miou"]
    return sum(long[seed] - short[seed] for seed in shared) / len(shared)


def with_weights(study: Study, arch: str) -> list[Run]:
    """The runs of a network's best length whose weights are on this machine."""
    return [run for run in best(trained(study, arch)) if run.folder is not None]


def network_of(study: Study, arch: str) -> tuple[SegmentationModel, bool]:
    """A network in evaluation mode, and whether its weights are of a training.

    The first seed of the length that gives the highest mIoU, where its weights are on this machine; else as it is built: its label
    maps have other borders, and with them another time.

    Args:
        study: at profile `bench`.
        arch: a network's name.

    Raises:
        RuntimeError: an optional package that it needs is missing.
    """
    own_runs = with_weights(study, arch)
    return (own_runs[0].model() if own_runs else registry.build(arch, 19)).eval(), bool(own_runs)


def networks_of(study: Study, names: Iterable[str]) -> tuple[dict[str, SegmentationModel], dict[str, bool]]:
    """Roles of `CHOSEN` and other networks as `network_of` gives them, and whether each is trained.

    Of those that need a package that is missing it is said that they are not measured.
    """
    networks, are_trained = {}, {}
    for name in names:
        try:
            networks[name], are_trained[name] = network_of(study, CHOSEN.get(name, name))
        except RuntimeError as error:
            print(f"not measured: {error}")
    return networks, are_trained


def scored(study: Study, speeds: pd.DataFrame) -> pd.DataFrame:
    """What each network takes (`tcseg measure speeds`), and what it scores after the best of its lengths of training.

    Args:
        study: at profile `bench`; its rows, made here or committed.
        speeds: of that measurement: `arch`, and times.

    Returns:
        model (the role of those that were chosen, else arch), arch, peer, seeds, steps, miou, tc, flicker, harmful_flicker (means
        over seeds, 0..1), doubling (what the last doubling of steps gained in mIoU, same seeds), train_minutes; the first three
        scores after one, two, ... times the steps of the profile (miou_1x, miou_2x, ..., flicker_8x), for networks at equal steps,
        and how many seeds each is the mean of (seeds_1x, ...); then the columns of `speeds`.
    """
    roles = {arch: role for role, arch in CHOSEN.items()}
    rows = []
    for speed in speeds.to_dict("records"):
        by_length = trained(study, speed["arch"])
        who = {"model": roles.get(speed["arch"], speed["arch"]), "arch": speed["arch"], "peer": speed["peer"]}
        rows.append(who | _scores(by_length) | {key: value for key, value in speed.items() if key not in who})
    return pd.DataFrame(rows)


def against_peers(study: Study) -> pd.DataFrame:
    """The chosen students against each peer: after equally many steps, and each after its best length; on common seeds.

    Args:
        study: as in `scored`.

    Returns:
        The columns of `comparisons.effects`, one family; comparison is "<student>, 2x_vs_<peer>, 2x" for twice the profile's
        steps, or "<student>, 4x_vs_<peer>, 2x" where these are their best. Those without a common seed are left out.
    """
    roles = {arch: role for role, arch in CHOSEN.items()}
    lengths = {arch: trained(study, arch) for arch in (*roles, *PEERS)}
    best_of = {arch: best(by_length) for arch, by_length in lengths.items()}
    named = {run.name: f"{roles.get(a, a)}, {n:g}x" for a in lengths for n, runs in lengths[a].items() for run in runs}
    pairs = {}
    for ours in roles:
        for theirs in PEERS:
            equal = [
                (lengths[ours][n][0].name, lengths[theirs][n][0].name) for n in lengths[ours] if n in lengths[theirs]
            ]
            ends = [(one[0].name, other[0].name) for one, other in [(best_of[ours], best_of[theirs])] if one and other]
            pairs |= {f"{named[one]}_vs_{named[other]}": (one, other) for one, other in (*equal, *ends)}
    every = [run for by_length in lengths.values() for runs in by_length.values() for run in runs]
    return effects(every, pairs, primary=())


def _scores(by_length: dict[float, list[Run]]) -> dict[str, float]:
    runs = best(by_length)
    means = {n: _means(by_length.get(n, [])) for n in NETWORK_LENGTHS}
    minutes = [run.record["cost"]["train_seconds"] / 60 for run in runs]
    return {
        "seeds": len(runs),
        "steps": runs[0].record["recipe"]["steps"] if runs else 0,
        **_means(runs),
        "doubling": _doubling(by_length),
        "train_minutes": round(sum(minutes) / len(minutes), 2) if minutes else float("nan"),
        **{f"{score}_{n:g}x": means[n][score] for score in ("miou", "tc", "flicker") for n in NETWORK_LENGTHS},
        **{f"seeds_{n:g}x": len(by_length.get(n, [])) for n in NETWORK_LENGTHS},
    }


def _means(runs: list[Run]) -> dict[str, float]:
    each = [{**run.metrics, "tc": run.metrics["tc"]["exact"]} for run in runs]
    columns = ["miou", "tc", "flicker", "harmful_flicker"]
    return pd.DataFrame(each, columns=columns).astype(float).mean().round(5).to_dict()


def _doubling(by_length: dict[float, list[Run]]) -> float:
    """What the longest training gained against half of it, over the seeds that have both; nan where nobody knows."""
    longest = max(by_length, default=1)
    short, long = by_length.get(longest / 2, []), by_length.get(longest, [])
    shared = {run.seed for run in short} & {run.seed for run in long}
    return round(_gain(short, long), 5) if shared else float("nan")
