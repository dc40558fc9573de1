"""The latency protocol: the table's contract, how many frames count, and what is said when something is amiss."""

from __future__ import annotations

import importlib.util
import logging
import time

import numba
import numpy as np
import pandas as pd
import pytest
import torch

from tcseg import benchmark
from tcseg.benchmark import COLUMNS, SCOPES, bench, machine_facts, summarize
from tcseg.models import build
from tcseg.networks import SegmentationModel
from tcseg.runtimes import Network


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build("student", 19, False).eval()


def test_table_follows_the_contract(model: SegmentationModel) -> None:
    models = {"a": model, "b": model}
    table = bench(models, (100, 50), frames=4, seconds=5, runtimes=("pytorch",), threads=1, progress=False)
    contract = "machine model runtime precision height width threads scope n p50_ms p90_ms p99_ms fps".split()
    assert set(contract) <= set(table.columns) and tuple(table.columns) == COLUMNS
    assert list(zip(table["model"], table["scope"], strict=True)) == [(m, s) for m in "ab" for s in SCOPES]
    assert (table["n"] == 4).all() and (table["threads"] == 1).all() and (table["precision"] == "fp32").all()
    assert (table["height"] == 50).all() and (table["width"] == 100).all() and table["machine"].str.len().min() > 0
    for quantile in ("p50_ms", "p90_ms", "max_ms"):
        for _, rows in table.groupby("model"):
            assert rows[quantile].is_monotonic_increasing  # every scope contains the one before
    assert (table["p50_ms"] <= table["p90_ms"]).all() and (table["p99_ms"] <= table["max_ms"]).all()
    assert np.allclose(table["fps"], 1000 / table["p50_ms"])
    assert table.attrs["noise"] > 0 and table.attrs["missing"] == {}


def test_threads_are_pinned_and_given_back(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = benchmark.time_frame
    monkeypatch.setattr(
        benchmark,
        "time_frame",
        lambda *a: seen.append((torch.get_num_threads(), numba.get_num_threads())) or original(*a),
    )
    before = torch.get_num_threads(), numba.get_num_threads()
    bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch",), threads=1, progress=False)
    assert set(seen) == {(1, 1)} and (torch.get_num_threads(), numba.get_num_threads()) == before
    with pytest.raises(ValueError, match="threads is 4096"):
        bench({"a": model}, threads=4096)


def fake(milliseconds: float) -> Network:
    return Network("fake", lambda frame: frame, lambda x: time.sleep(milliseconds / 1e3), lambda logits, size: None)


@pytest.mark.parametrize(
    ("frames", "seconds", "expected"), [(7, 60, 7), (100, 0, 30), (40, 60, 40), (500, 0.1, range(30, 60))]
)
def test_how_many_frames_count(frames: int, seconds: float, expected: int | range) -> None:
    """`frames` or `seconds`, whichever is shorter, but never under 30."""
    images = np.zeros((2, 4, 4, 3), np.uint8)
    times = benchmark._measure({("m", "fake"): fake(2)}, images, frames, seconds, progress=False)["m", "fake"]
    assert times.shape[1] == 3 and (len(times) in expected if isinstance(expected, range) else len(times) == expected)
    assert np.median(times[:, 0]) >= 2


def test_models_take_turns() -> None:
    order = []

    def logged(name: str) -> Network:
        return Network("fake", lambda frame: frame, lambda x: order.append(name), lambda logits, size: None)

    benchmark._measure({("a", ""): logged("a"), ("b", ""): logged("b")}, np.zeros((1, 4, 4, 3), np.uint8), 30, 9, False)
    assert sum(x != y for x, y in zip(order, order[1:], strict=False)) >= 6


def test_a_missing_runtime_is_listed_and_told(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with caplog.at_level(logging.WARNING):
        table = bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch", "openvino"), progress=False)
    assert (
        "not measured: openvino needs openvino" in caplog.text and "pip install" in table.attrs["missing"]["openvino"]
    )
    gone = table[table["runtime"] == "openvino"]
    assert (gone["n"] == 0).all() and gone["p50_ms"].isna().all() and len(gone) == 3
    assert (table[table["runtime"] == "pytorch"]["n"] == 2).all()
    assert len(pd.read_csv(pd.io.common.StringIO(table.to_csv(index=False)))) == 6


def test_a_busy_machine_is_told(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(benchmark, "noise", lambda: 0.8)
    with caplog.at_level(logging.WARNING):
        bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch",), progress=False)
    assert "varies by 80 %" in caplog.text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"models": {}}, "models is empty"),
        ({"frames": 0}, "frames is 0"),
        ({"runtimes": ("tensorrt",)}, "runtime is 'tensorrt'"),
        ({"images": np.zeros((1, 5, 5, 3), np.uint8)}, "images are uint8"),
    ],
)
def test_wrong_arguments(model: SegmentationModel, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        bench(**({"models": {"a": model}, "size": (64, 32), "progress": False} | options))


def test_percentiles() -> None:
    row = summarize(np.arange(1.0, 102.0))
    assert (row["n"], row["p50_ms"], row["p90_ms"], row["p99_ms"], row["max_ms"]) == (101, 51, 91, 100, 101)
    assert row["fps"] == pytest.approx(1000 / 51)


def test_machine_facts_can_be_written() -> None:
    facts = machine_facts()
    assert facts["cpu"] and facts["cores"] >= 1 and facts["memory_gib"] > 0 and facts["threads"] >= 1
    assert all(isinstance(value, str | int | float | None) for value in facts.values())
