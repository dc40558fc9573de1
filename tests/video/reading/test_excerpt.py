"""Start, end and stride: against a list of times, and what is refused before work."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from tcseg.errors import InputError
from tcseg.video.reading.decoding import Source
from tcseg.video.reading.excerpt import Excerpt, read_time


def source(count: int = 20, fps: float = 10.0, live: bool = False, known: bool = True) -> Source:
    frames = [np.full((2, 2, 3), i, np.uint8) for i in range(count)]
    names = tuple(f"n{i}" for i in range(count)) if known else None
    return Source("x.mp4", fps, count if known else None, live, lambda: (frame for frame in frames), names)


def numbers(taken: Source) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in taken.frames()]


@pytest.mark.parametrize("fps", [10, 25, Fraction(30000, 1001), 17])
def test_frames_are_those_whose_times_lie_in_between(fps):
    times = [Fraction(i) / Fraction(fps) for i in range(20)]
    edges = (None, "0", "0.1", "0.3", "0.35", "0.7")
    for start, end, stride in itertools.product(edges, edges, (1, 2, 3, 50)):
        low, high = Fraction(start or 0), Fraction(end or 99)
        wanted = [i for i, when in enumerate(times) if low <= when < high][::stride]
        if not wanted:
            continue
        excerpt = Excerpt(None if start is None else float(start), None if end is None else float(end), stride)
        for known in (True, False):
            taken = excerpt.of(source(fps=float(fps), known=known))
            assert numbers(taken) == wanted, (start, end, stride)
            assert taken.fps == pytest.approx(float(fps) / stride)
            assert taken.count == (len(wanted) if known else None)
            assert taken.names == (tuple(f"n{i}" for i in range(20)) if known else None)
        places = [excerpt.place(i, source(fps=float(fps))) for i in range(len(wanted))]
        assert [frame for frame, _ in places] == wanted
        assert [when for _, when in places] == pytest.approx([float(times[i]) for i in wanted])


def test_nothing_changes_without_an_excerpt_and_the_file_is_closed():
    whole, closed = source(), []

    def frames():
        try:
            yield from source().frames()
        finally:
            closed.append(True)

    assert Excerpt().of(whole) is whole and Excerpt().is_all
    whole.frames = frames
    assert numbers(Excerpt(end=0.5).of(whole)) == [0, 1, 2, 3, 4] and closed == [True]


def test_a_live_source_goes_by_the_clock(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("tcseg.video.reading.excerpt.time.monotonic", lambda: next(ticks) * 0.5)  # half a second a look
    assert numbers(Excerpt(1.0, 3.0).of(source(live=True, known=False))) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": 2.0}, r"start is 2 s, but x.mp4 lasts 2 s \(20 frames at 10 a second\)"),
        ({"start": 0.11, "end": 0.19}, "has no frame"),
        ({"start": 1.0, "end": 1.0}, "later than start"),
        ({"start": 3.0, "end": 1.0}, "later than start"),
        ({"end": 0.0}, "later than start"),
        ({"start": -1.0}, "start is -1.0"),
        ({"end": float("nan")}, "end is nan"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": 1.5}, "stride is 1.5"),
    ],
)
def test_what_cannot_be_is_refused_before_work(options, told):
    with pytest.raises(InputError, match=told):
        Excerpt(**options).of(source())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("0:01:30.5", 90.5), (".5", 0.5), ("2.", 2), ("1:00:00", 3600), ("75:00", 4500), (" 7 ", 7)],
)
def test_times_are_read(text, seconds):
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "abc", "-1", "1:75", "1:60:00", "1:2:3:4", "1e3", "nan", "inf", "1:-2", "1,5", "١"])
def test_no_times(text):
    with pytest.raises(InputError, match="is no time"):
        read_time(text)


def test_times_are_the_source_s_own_and_names_stay_with_their_frames():
    """Frames at a varying rate, the second of which is lost: a time cuts where it says, and `reading` says which frame it is."""
    times, indices = [1.0, 1.5, 3.0, 3.1, 6.0], [0, 2, 3, 4, 5]

    def frames():
        for time, index in zip(times, indices, strict=True):
            varying.reading.time, varying.reading.index = time, index
            yield np.full((2, 2, 3), index, np.uint8)

    varying = Source("x", 1.0, 6, False, frames, tuple("abcdef"))
    taken = Excerpt(0.4, 2.1).of(varying)  # from the first frame on
    given = [(int(frame[0, 0, 0]), taken.reading.index, taken.names[taken.reading.index]) for frame in taken.frames()]
    assert given == [(2, 2, "c"), (3, 3, "d")]
    assert numbers(Excerpt(2.0, None, 2).of(varying)) == [3, 5]
