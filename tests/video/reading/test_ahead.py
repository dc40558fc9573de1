"""The first frames of a source that is read once are looked at, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tcseg.errors import InputError
from tcseg.video.reading.ahead import Ahead, spread
from tcseg.video.reading.excerpt import Excerpt
from tcseg.video.reading.sources import Source


def numbered(count: int, fails_at: int = -1) -> Source:
    """Frames that hold their numbers, half a second apart; every third number is missing."""
    source = Source("pipe", 2, None, False, lambda: iter(()), once=True)

    def frames() -> Iterator[np.ndarray]:
        for place in range(count):
            if place == fails_at:
                raise InputError("broken")
            source.reading.time, source.reading.index = 10 + place / 2, place + place // 2
            source.reading.began = 10.0
            yield np.full((2, 3, 3), place, np.uint8)

    source.frames = frames
    return source


def told(source: Source, frames: Iterator[np.ndarray]) -> list[tuple]:
    return [(int(frame[0, 0, 0]), source.reading.time, source.reading.index) for frame in frames]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_frames_that_were_looked_at_come_out_with_their_times(count: int) -> None:
    plain = numbered(count)
    expected = told(plain, plain.frames())
    ahead = Ahead(numbered(count))
    stream = ahead.source.frames()
    first = next(stream)
    before = ahead.source.reading.time, ahead.source.reading.index
    seen = [int(frame[0, 0, 0]) for frame in ahead.look(4)]
    assert seen == list(range(min(count, 4))) and (first == 0).all()
    assert (ahead.source.reading.time, ahead.source.reading.index) == before  # still of the frame that was given
    assert [int(frame[0, 0, 0]) for frame in ahead.look(2)] == seen  # nothing more is read, nothing is forgotten
    assert [(0, *before), *told(ahead.source, stream)] == expected


def test_as_many_are_kept_as_memory_allows() -> None:
    ahead = Ahead(numbered(9))
    assert ahead.look() == []  # nothing was read yet
    stream = ahead.source.frames()
    next(stream)
    assert len(ahead.look(memory=18 * 3 + 17)) == 3 and len(ahead.look(memory=1)) == 3
    assert len(list(stream)) == 8


def test_what_goes_wrong_is_told_in_its_place() -> None:
    ahead = Ahead(numbered(9, fails_at=3))
    stream, seen = ahead.source.frames(), []
    seen.append(next(stream))
    assert len(ahead.look()) == 3
    with pytest.raises(InputError, match="broken"):
        seen.extend(stream)
        pytest.fail("it went on")
    assert [int(frame[0, 0, 0]) for frame in seen[:1]] == [0]


def test_frames_before_the_error_come_out() -> None:
    ahead, seen = Ahead(numbered(9, fails_at=3)), []
    with pytest.raises(InputError, match="broken"):
        for frame in ahead.source.frames():
            seen.append(int(frame[0, 0, 0]))
            ahead.look()
    assert seen == [0, 1, 2]


def test_an_excerpt_is_looked_at_alone() -> None:
    ahead = Ahead(Excerpt(start=1, stride=2).of(numbered(9)))
    stream = ahead.source.frames()
    next(stream)
    assert [int(frame[0, 0, 0]) for frame in ahead.look(3)] == [2, 4, 6]
    assert [number for number, _, _ in told(ahead.source, stream)] == [4, 6, 8]


def test_frames_are_spread() -> None:
    frames = list(range(9))
    assert spread(frames, 3) == [0, 3, 6] and spread(frames, 4) == [0, 3, 6] and spread(frames, 99) == frames
    assert len(spread(list(range(128)), 32)) == 32 and len(spread(list(range(41)), 32)) == 21
