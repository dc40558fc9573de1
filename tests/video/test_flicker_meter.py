"""The stability strip: its number on doses that are known, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tcseg.video import flicker_meter
from tcseg.video.flicker_meter import HISTORY, Meter, draw_strip, flicker, strip_height


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured blocks of 8 pixels: something that flow can follow."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


def doses(share: float, count: int, shape: tuple[int, int], seed: int = 1) -> list[np.ndarray]:
    """Maps of class 0 in which every second one has a share of its pixels in class 1."""
    rng = np.random.default_rng(seed)
    maps = [np.zeros(shape, np.uint8) for _ in range(count)]
    for labels in maps[1::2]:
        labels.reshape(-1)[rng.permutation(labels.size)[: round(share * labels.size)]] = 1
    return maps


def test_a_known_dose_of_flips_on_a_still_picture_is_exact() -> None:
    frames = [texture(64, 96)] * 5
    values = flicker(frames, doses(0.125, 5, (64, 96)))
    assert np.isnan(values[0]) and values[1:] == pytest.approx([0.125] * 4)


def test_the_pixels_that_changed_can_be_looked_at() -> None:
    frames, maps = [texture(64, 96)] * 2, doses(0.125, 2, (64, 96))
    assert (flicker_meter.changed(frames, maps) == (maps[1] == 1)).all()
    assert flicker_meter.changed([texture(256, 768)] * 2, doses(0.1, 2, (256, 768))).shape == (85, 256)


def test_a_wide_picture_is_sampled() -> None:
    frames = [texture(256, 768)] * 3
    values = flicker(frames, doses(0.1, 3, (256, 768)))
    assert values[1:] == pytest.approx([0.1, 0.1], abs=0.006)  # 256 x 85 of its pixels: 2 % of 0.1 is one sigma


@pytest.mark.parametrize("width", [128, 512])
def test_motion_is_taken_out_and_the_dose_stays(width: int) -> None:
    shift, count, height = width // 64, 4, 64
    wide = texture(height, width + shift * count)
    classes = (np.arange(wide.shape[1]) // (width // 4) % 5).astype(np.uint8)[None].repeat(height, 0)
    frames = [np.ascontiguousarray(wide[:, t * shift : t * shift + width]) for t in range(count)]
    maps = [np.ascontiguousarray(classes[:, t * shift : t * shift + width]) for t in range(count)]
    assert (maps[0] != maps[1]).mean() > 0.04  # without motion taken out
    assert np.nanmax(flicker(frames, maps)) < 0.012
    for labels in maps[1::2]:
        labels[: height // 4] += 5
    assert flicker(frames, maps)[1:] == pytest.approx([0.25] * 3, abs=0.025)


def test_what_comes_into_view_is_not_counted() -> None:
    before, after = texture(64, 128), texture(64, 128)
    after[:, 64:] = texture(64, 64, seed=5)  # half of the picture is another one: a door opened
    labels = np.zeros((64, 128), np.uint8)
    changed = labels.copy()
    changed[:, 72:] = 3
    assert flicker([before, after], [labels, changed])[1] < 0.1  # 44 % of the pixels changed


def test_a_cut_has_no_value_and_the_mean_leaves_it_out() -> None:
    still, other = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)
    meter = Meter()
    for frame, labels in zip([still, still, other, other], doses(0.5, 4, (64, 96)), strict=True):
        meter.step(frame, [labels])
    values = [row[0] for row in meter.series]
    assert np.isnan(values).tolist() == [True, False, True, False]
    assert meter.means() == pytest.approx([0.5])
    assert np.isnan(Meter().means()).all()


def test_several_networks_share_the_motion() -> None:
    frames = [texture(64, 96)] * 3
    meter = Meter()
    for frame, *maps in zip(frames, doses(0.25, 3, (64, 96)), doses(0.0, 3, (64, 96)), strict=True):
        meter.step(frame, maps)
    assert meter.means() == pytest.approx([0.25, 0])


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"labels are \(32, 48\) but the frame \(64, 96, 3\)"):
        Meter().step(texture(64, 96), [np.zeros((32, 48), np.uint8)])


@pytest.mark.parametrize(
    ("width", "names"), [(256, ("flicker",)), (1024, ("flicker",)), (768, ("a", "b")), (40, ("x",))]
)
def test_the_strip_has_its_size_at_any_width(width: int, names: tuple[str, ...]) -> None:
    series = [[float("nan")] * len(names), [0.02] * len(names), [float("nan")] * len(names), [1.0] * len(names)]
    for known in (1, 2, 4):
        strip = draw_strip(series[:known], [0.02] * len(names), width, names)
        assert strip.shape == (strip_height(width, len(names)), width, 3) and strip.dtype == np.uint8
        assert strip.shape[0] % 2 == 0


def line_rows(strip: np.ndarray) -> np.ndarray:
    """The row of the line in each column, -1 where there is none: the brightest orange, right of the words."""
    bright = strip[:, 200:].astype(int)
    orange = (bright[..., 0] > 150) & (bright[..., 2] < 110)
    return np.where(orange.any(0), orange.argmax(0), -1)


def test_the_line_is_as_high_as_its_value_and_scrolls() -> None:
    series = [[0.005]] * HISTORY + [[0.04]] * (HISTORY // 2)
    rows = line_rows(draw_strip(series, [0.02], 1024))
    height = strip_height(1024) - 4
    assert rows[-40:-10] == pytest.approx(
        2 + (height - 2) * (1 - 0.04 / 0.05), abs=1.5
    )  # of 5 %, the newest at the right
    assert rows[40:200] == pytest.approx(2 + (height - 2) * (1 - 0.005 / 0.05), abs=1.5)
    scrolled = line_rows(draw_strip([*series, *[[0.04]] * (HISTORY // 2)], [0.02], 1024))
    assert scrolled[40:200] == pytest.approx(rows[-40], abs=1)


@pytest.mark.parametrize("expected", [8, 50, 700, 4000])
def test_the_axis_is_as_long_as_the_clip(expected: int) -> None:
    """Half of a clip fills half of the plot, the whole all of it, and its one high value stands where it was."""
    series, quarter = [[0.02]] * expected, expected // 4
    series[quarter] = [0.09]
    strips = [draw_strip(series[:n], [0.02], 1024, expected=expected) for n in (expected, expected // 2)]
    left = np.flatnonzero((strips[0][2] == flicker_meter.GRID).all(1))[0]  # where the grid begins

    def column_of(index: int) -> float:
        return left - 200 + (1021 - left) * index / (expected - 1)

    whole, half = map(line_rows, strips)
    assert np.flatnonzero(whole >= 0)[-1] == pytest.approx(column_of(expected - 1), abs=2)
    assert np.flatnonzero(half >= 0)[-1] == pytest.approx(column_of(expected // 2 - 1), abs=2)
    there = np.flatnonzero(whole >= 0)
    assert there[whole[there] == whole[there].min()].mean() == pytest.approx(column_of(quarter), abs=3)


def test_a_clip_longer_than_announced_and_one_of_a_single_frame() -> None:
    longer = draw_strip([[0.02]] * 30, [0.02], 1024, expected=10)
    assert np.array_equal(longer, draw_strip([[0.02]] * 30, [0.02], 1024, expected=30))
    assert draw_strip([[float("nan")]], [float("nan")], 512, expected=1).shape == (strip_height(512), 512, 3)


def test_a_gap_breaks_the_line() -> None:
    series = [[0.02]] * HISTORY
    series[60] = [float("nan")]
    rows = line_rows(draw_strip(series, [0.02], 1024))
    assert (rows >= 0).any() and 4 < (rows[30:-5] < 0).sum() < 40


def test_flow_is_estimated_small(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = flicker_meter.estimate
    monkeypatch.setattr(flicker_meter, "estimate", lambda method, a, b: seen.append(a.shape) or real(method, a, b))
    flicker([texture(200, 1000)] * 2, doses(0, 2, (200, 1000)))
    assert seen == [(51, 256, 3)]


def test_a_camera_that_runs_for_days_does_not_fill_the_memory():
    meter, still = flicker_meter.Meter(keep=3), np.zeros((64, 64, 3), np.uint8)
    lengths = [len(meter.series) for _ in range(12) if meter.step(still, [still[..., 0]])]
    assert max(lengths) == 5 and lengths[-1] >= 3 and len(meter.means()) == 1
