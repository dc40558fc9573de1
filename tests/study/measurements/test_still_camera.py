"""A camera that does not move: what the numbers say of answers that are known."""

import numpy as np
import pytest

from tcseg.study.measurements.real import still_camera as measurement


@pytest.fixture
def street(monkeypatch):
    """A square of noise that moves 2 px a frame over a background of noise."""
    rng = np.random.default_rng(0)
    background = rng.integers(0, 90, (48, 96, 3), np.uint8)
    square = rng.integers(160, 255, (12, 12, 3), np.uint8)
    frames, truth = np.repeat(background[None], 30, 0), np.zeros((30, 48, 96), np.uint8)
    for t in range(30):
        frames[t, 20:32, 4 + 2 * t : 16 + 2 * t], truth[t, 20:32, 4 + 2 * t : 16 + 2 * t] = square, 1
    return frames, truth


def test_subtraction_finds_what_moves(street):
    frames, truth = street
    found = measurement.subtracted(frames)
    both, either = (found & truth).sum(), (found | truth).sum()
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 1} and both / either > 0.7


def test_motion_by_class(street):
    table = measurement.motion(*street).set_index("class")
    assert table.loc["background", "median_px"] < 0.3 and table.loc["background", "still"] > 0.8  # the rim of what moves
    assert 1.5 < table.loc["moving", "median_px"] < 2.5 and table.loc["moving", "still"] < 0.2
    assert table["pixels"].sum() == pytest.approx(1) and table.loc["moving", "pixels"] == pytest.approx(144 / (48 * 96))


def test_answers_are_what_they_are_called(street):
    _, truth = street
    found = measurement.answers(truth)
    assert np.array_equal(found["the maps"], truth) and not found["always background"].any()
    assert np.array_equal(found["one frame late"][1:], truth[:-1])
    (noisy,) = (maps for name, maps in found.items() if "wrong" in name)
    assert (noisy != truth).mean() == pytest.approx(measurement.NOISE, rel=0.1)


def test_always_background_is_perfectly_steady_and_finds_nothing(street, monkeypatch, tmp_path):
    frames, truth = street
    monkeypatch.setattr(measurement, "find_dataset", lambda name: tmp_path)
    (tmp_path / measurement.FILM).touch()
    monkeypatch.setattr(measurement, "read", lambda path, most: frames)
    monkeypatch.setattr(measurement, "subtracted", lambda shown: truth)
    table = measurement.measure(tmp_path).set_index(["answer", "flow"])
    nothing = table.loc[("always background", "dis")]
    assert nothing.tc == 1 and nothing.flicker == 0 and np.isnan(nothing.tc_moving) and nothing.miou < 0.51
    assert table.loc[("the maps", "dis"), "miou"] == 1 and table.loc[("the maps", "dis"), "flicker"] == 0
    assert table.loc[("the maps", "dis"), "tc_moving"] > table.loc[("the maps", "zero"), "tc_moving"]
    assert (tmp_path / "tables" / "still_camera_motion.csv").exists()


def test_without_the_film_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(measurement, "find_dataset", lambda name: tmp_path)
    with pytest.raises(FileNotFoundError, match="fixed_camera_cars.mp4 is not in data/videos"):
        measurement.measure(tmp_path)
