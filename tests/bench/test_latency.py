"""The latency protocol: the table's contract, how many frames count, and what is said when something is amiss."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import time
from itertools import cycle

import numpy as np
import pandas as pd
import pytest
import torch

from tcseg.bench import busy_machine, latency, processes
from tcseg.bench.latency import COLUMNS, SCOPES, bench, summarize
from tcseg.deploy.runtimes import Network
from tcseg.machine import machine_facts
from tcseg.models.networks import SegmentationModel
from tcseg.models.registry import build


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build("student", 19, False).eval()


def test_table_follows_the_contract(model: SegmentationModel) -> None:
    models = {"a": model, "b": model}
    table = bench(models, (100, 50), frames=4, seconds=5, runtimes=("pytorch",), threads=1, progress=False, anyway=True)
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


@pytest.mark.slow
def test_threads_are_pinned_and_given_back(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = latency.time_frame
    monkeypatch.setattr(
        latency,
        "time_frame",
        lambda *a: seen.append(torch.get_num_threads()) or original(*a),
    )
    before = torch.get_num_threads()
    bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch",), threads=1, progress=False, anyway=True)
    assert set(seen) == {1} and torch.get_num_threads() == before
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
    times = latency.take_turns({("m", "fake", "fp32"): fake(2)}, images, frames, seconds, False)["m", "fake", "fp32"]
    assert times.shape[1] == 3 and (len(times) in expected if isinstance(expected, range) else len(times) == expected)
    assert np.median(times[:, 0]) >= 2


def test_models_take_turns() -> None:
    order = []

    def logged(name: str) -> Network:
        return Network("fake", lambda frame: frame, lambda x: order.append(name), lambda logits, size: None)

    latency.take_turns(
        {("a", "", ""): logged("a"), ("b", "", ""): logged("b")}, np.zeros((1, 4, 4, 3), np.uint8), 30, 9, False
    )
    assert sum(x != y for x, y in zip(order, order[1:], strict=False)) == 5  # three rounds of ten frames each


def test_what_cannot_run_here_is_refused_before_the_machine_is_looked_at(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_machine, "noise", lambda: pytest.fail("nothing is to be measured"))
    with pytest.raises(RuntimeError, match="no combination can be measured: cudagraph fp16 needs an NVIDIA GPU"):
        bench({"a": model}, (64, 32), runtimes=("cudagraph",), precisions=("fp16",))


def test_what_refuses_at_its_first_frame_costs_nobody_else_anything() -> None:
    def refusing(frame: np.ndarray) -> None:
        raise RuntimeError("no such kernel\nand a page of it")

    broken = Network("fake", lambda frame: frame, refusing, lambda logits, size: None)
    networks = {("a", "fake", "fp16"): broken, ("b", "fake", "fp16"): fake(1)}
    warm, refused = latency.warm_up(networks, np.zeros((2, 4, 4, 3), np.uint8), False)
    assert list(warm) == [("b", "fake", "fp16")]
    assert refused == {"a in fake fp16": "no such kernel"}


@pytest.mark.slow
def test_a_missing_runtime_is_listed_and_told(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with caplog.at_level(logging.WARNING):
        table = bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch", "openvino"), anyway=True, progress=False)
    assert (
        "openvino fp32: openvino needs openvino" in caplog.text
        and "pip install" in table.attrs["missing"]["openvino fp32"]
    )
    gone = table[table["runtime"] == "openvino"]
    assert (gone["n"] == 0).all() and gone["p50_ms"].isna().all() and len(gone) == 3
    assert (table[table["runtime"] == "pytorch"]["n"] == 2).all()
    assert len(pd.read_csv(pd.io.common.StringIO(table.to_csv(index=False)))) == 6


@pytest.mark.slow
def test_a_busy_machine_is_refused_unless_asked(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(busy_machine, "noise", lambda: 0.8)
    with pytest.raises(busy_machine.NoisyMachineError, match=r"varies by 80 %.*--anyway"):
        bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch",), progress=False)
    with caplog.at_level(logging.WARNING):
        table = bench({"a": model}, (64, 32), frames=2, runtimes=("pytorch",), anyway=True, progress=False)
    assert "varies by 80 %" in caplog.text and (table["noise"] == 0.8).all()


@pytest.mark.slow
def test_noise_is_looked_for_between_the_rounds_too(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_machine, "noise", lambda: 0.01)
    beats = cycle([1.0, 9.0])
    monkeypatch.setattr(busy_machine, "time_fixed_work", lambda ms, repeats: np.full(repeats, next(beats)))
    options = {"frames": 60, "seconds": 60, "runtimes": ("pytorch",), "progress": False}
    with pytest.raises(busy_machine.NoisyMachineError, match="varies by"):
        bench({"a": model}, (64, 32), **options)
    table = bench({"a": model}, (64, 32), **options, anyway=True)
    assert table["noise"].min() > 0.25


def test_between_the_rounds_threads_come_to_rest_before_the_control_and_after_it(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy's threads wait by spinning: without a pause the first network of a round took up to three times as long."""
    seen = []
    monkeypatch.setattr(busy_machine, "time_fixed_work", lambda ms, repeats: seen.append("control") or np.ones(repeats))
    monkeypatch.setattr(latency.time, "sleep", lambda seconds: seen.append(seconds))
    network = Network(
        "x", lambda frame: seen.append("frame") or frame, lambda frame: frame, lambda logits, size: logits
    )
    latency.take_turns({("a", "x", "fp32"): network}, np.zeros((1, 4, 4, 3), np.uint8), 30, 60, False, [])
    a_round = ["frame"] * (1 + latency.ROUND) + [latency.PAUSE, "control", latency.PAUSE]
    assert seen == a_round * 3


@pytest.mark.slow
def test_a_network_that_a_converter_refuses_is_missing_and_the_others_are_there(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, bad = latency.open_networks, build("student", 19).eval()

    def open_networks(one: SegmentationModel, *args: object) -> dict[str, Network]:
        if one is bad:
            raise RuntimeError("no kernel for that\nand more")
        return right(one, *args)

    monkeypatch.setattr(latency, "open_networks", open_networks)
    table = bench({"a": model, "b": bad}, (64, 32), frames=2, runtimes=("pytorch",), anyway=True, progress=False)
    assert table.groupby("model")["n"].max().to_dict() == {"a": 2, "b": 0}
    assert table.attrs["missing"] == {"b in pytorch fp32": "no kernel for that"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"models": {}}, "models is empty"),
        ({"frames": 0}, "frames is 0"),
        ({"runtimes": ("ncnn",)}, "runtime is 'ncnn'"),
        ({"precisions": ("int4",)}, "precision is 'int4'"),
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


@pytest.mark.slow
def test_work_and_roof_are_in_every_row(model: SegmentationModel) -> None:
    table = bench({"a": model}, (100, 50), frames=2, runtimes=("pytorch",), anyway=True, progress=False)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert np.allclose(table["params_m"], parameters) and (table[["gflop", "mbytes", "roof_share"]] > 0).all(axis=None)
    assert table["roof_share"].nunique() == 1 and table["cores"].min() >= 1
    assert np.shape(table.attrs["times"]["a", "pytorch", "fp32"]) == (2, 3)
    assert len(pd.concat([table, table])) == 6


@pytest.mark.slow
def test_what_a_cpu_cannot_do_is_missing_and_said(model: SegmentationModel) -> None:
    wanted = {"runtimes": ("pytorch", "cudagraph", "onnxruntime"), "precisions": ("fp32", "int8", "fp16")}
    table = bench({"a": model}, (64, 32), frames=2, anyway=True, progress=False, **wanted)
    measured = table[table["n"] > 0].drop_duplicates(["runtime", "precision"])[["runtime", "precision"]]
    missing = table.attrs["missing"]
    assert {"pytorch int8", "pytorch fp16", "cudagraph fp32", "cudagraph int8", "onnxruntime fp16"} <= set(missing)
    assert len(table) == 27 and set(zip(measured["runtime"], measured["precision"], strict=True)) >= {
        ("pytorch", "fp32")
    }
    shares = table[table["n"] > 0].groupby("precision")["roof_share"].min()
    assert shares["fp32"] > 0 and np.isnan(shares.get("int8", np.nan)), "the roof is float32's"
    assert "needs an NVIDIA GPU" in missing["cudagraph fp32"] and "store a file" in missing["onnxruntime fp16"]


@pytest.mark.slow
def test_a_process_of_its_own_tells_time_and_memory(model: SegmentationModel) -> None:
    pytest.importorskip("onnxruntime")
    options = {"runtimes": ("pytorch", "onnxruntime"), "cold": True, "anyway": True, "progress": False}
    table = bench({"a": model}, (64, 32), frames=2, **options).set_index("runtime")
    assert (table.loc["onnxruntime", ["first_ms", "peak_mb"]] > 0).all(axis=None)
    assert table.loc["onnxruntime", "peak_mb"].max() < 400  # nothing of torch is loaded
    assert table.loc["pytorch", "first_ms"].isna().all()


def test_processes_are_merged_into_medians_and_a_spread() -> None:
    same = {"machine": "m", "model": "a", "runtime": "r", "precision": "fp32", "height": 1, "width": 2, "threads": 1}
    rows = [
        pd.DataFrame([same | {"scope": scope, "n": 30, "p50_ms": p50, "fps": 1000 / p50} for scope in SCOPES])
        for p50 in (9.0, 10.0, 12.0)
    ]
    table = processes.merge([frame.reindex(columns=list(COLUMNS)) for frame in rows])
    assert len(table) == 3 and (table["p50_ms"] == 10).all() and (table["processes"] == 3).all()
    assert table["spread"].tolist() == pytest.approx([0.3] * 3) and table["scope"].tolist() == list(SCOPES)
    table.attrs["missing"] = {"openvino fp32": "why"}
    text = processes.as_text(table.fillna({"noise": 0.05}))
    assert processes.merge([rows[0].reindex(columns=list(COLUMNS))])["spread"].isna().all(), "one says nothing of it"
    assert "differ by at most 30%" in text and "missing: openvino fp32: why" in text


@pytest.mark.slow
def test_a_bench_is_repeated_in_new_processes(model: SegmentationModel) -> None:
    options = {"frames": 2, "runtimes": ("pytorch",), "anyway": True}
    table = processes.bench_repeatedly(2, {"a": model}, (64, 32), **options)
    assert (table["processes"] == 2).all() and table["p50_ms"].notna().all() and (table["spread"] >= 0).all()


def test_what_a_process_cannot_be_sent_is_built_there_anew(model: SegmentationModel) -> None:
    model.register_forward_hook(lambda module, given, made: made)  # as transformers leaves them
    frames, sent = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), processes._picklable(model)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(model)
    arrived = pickle.loads(pickle.dumps(sent))
    with torch.no_grad():
        assert not arrived.training and torch.equal(arrived(frames), model(frames))


def test_the_metronome_times_the_same_again_and_again():
    times = busy_machine.time_fixed_work(ms=0.5, repeats=7)
    assert times.shape == (7,) and (times > 0).all()
