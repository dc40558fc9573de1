"""The flow measurement: errors that are known, tables with all their rows, nothing downloaded."""

import numpy as np
import pandas as pd
import pytest

from tcseg.study.measurements.quality import flow as measurement

H, W = 32, 64


@pytest.fixture
def pair():
    """A picture that moves 4 px to the right, with two classes, a strip that leaves, and a void corner."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    labels = np.zeros((H, W), np.uint8)
    labels[:, 20:40] = 1
    labels[:4, :4] = 255
    flow = np.zeros((2, H, W), np.float32)
    flow[0] = 4
    visible = np.ones((H, W), bool)
    visible[:, -4:] = False
    return measurement.Pair(frame, np.roll(frame, 4, 1), labels, np.roll(labels, 4, 1), flow, visible)


def test_the_exact_flow_makes_no_error(pair):
    found = measurement.errors(pair.flow, pair)
    assert found["error"] == found["wrong"] == 0
    assert found["pixels"] == H * W and found["visible"] == H * (W - 4)
    assert found["agree"] == found["labelled"] == H * (W - 4) - 16


def test_known_errors(pair):
    off = pair.flow.copy()
    off[1, :, :32] = 3.5  # px, and more than 5 % of 4 px; not an outlier at 2.5
    off[1, :, 32:] = 2.5
    found = measurement.errors(off, pair)
    assert found["error"] == pytest.approx(H * 32 * (3.5 + 2.5))
    assert found["wrong"] == H * 32
    assert found["error_visible"] == pytest.approx(H * (32 * 3.5 + 28 * 2.5))
    fast = measurement.Pair(**{**vars(pair), "flow": pair.flow + 100})
    assert measurement.errors(fast.flow + 3.5, fast)["wrong"] == 0  # 5 px, but less than 5 % of the motion


def test_a_label_agrees_where_it_arrives(pair):
    still = measurement.errors(np.zeros_like(pair.flow), pair)
    # 4 columns on each side of the moved strip meet the other class; the void corner moved onto 4 x 4 labelled pixels.
    assert still["labelled"] - still["agree"] == 2 * 4 * H + 16
    outside = measurement.errors(np.full_like(pair.flow, 1000), pair)
    assert outside["agree"] == 0


def test_threads_are_given_back():
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"), measurement.one_thread():
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
        raise RuntimeError("stop")
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before


def test_raft_is_left_out_without_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert measurement.available() == [name for name in measurement.ESTIMATORS if name != "raft"]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth").touch()
    assert "raft" in measurement.available()


@pytest.mark.slow
def test_quick_measurement_has_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    table = measurement.measure(tmp_path, quick=True).set_index("estimator")
    assert list(table.index) == [*measurement.ESTIMATORS, "exact"]
    assert table.loc["exact", ["epe", "epe_visible", "epe_occluded", "fl_all"]].eq(0).all()
    assert table.loc["raft"].drop(["width", "height"]).isna().all()
    known = table.drop(index=["raft", "exact"])
    assert known.notna().all(axis=None) and (known["epe"] > 0).all()
    assert table["label_agreement"].max() == table.loc["exact", "label_agreement"] > 0.99
    scores = pd.read_csv(tmp_path / "tables" / "flow_tc.csv").set_index(["predictor", "estimator"])
    assert (scores.loc["true labels", "share"] == 1).all()
    assert set(scores.index.get_level_values("predictor")) == {"true labels", "student", "student-consistent"}
