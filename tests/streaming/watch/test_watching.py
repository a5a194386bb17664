"""When a source that does not wait is asked."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.watch.watching import Watching
from tests.streaming.watch.test_live_clip import frames_of
from workers.errors import VideoOpenError
from workers.video.live.events import End, Event
from workers.video.live.ticks import Ticks


class Source:
    """Hands over what it was given, a batch a time; the newest moment is that of all of it."""

    may_drop = True
    num_dropped = 0
    ticks = Ticks(first_seconds=0.0, fps=4.0, tolerance_seconds=1e-6)

    def __init__(self, *batches: tuple[list[Event], float | None], newest: float) -> None:
        self.batches = deque(batches)
        self.newest_seconds = newest

    def take(self, timeout_seconds: float) -> tuple[list[Event], float | None]:
        return self.batches.popleft()


class Clip:
    num_frames = 0
    frames = True

    def feed(self, frames: list[Any]) -> None:
        self.num_frames += len(frames)

    def hold(self) -> Any:
        return self

    def watch(self) -> None:
        pass


class Asker:
    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def ask(self, watched: None, held: Clip, media_seconds: float, source: Source) -> None:
        self.asked.append((media_seconds, held.num_frames))


def asked_of(source: Source, *, every: float) -> list[tuple[float, int]]:
    asker = Asker()
    Watching(source, Clip(), {every: asker}).run()
    return asker.asked


def test_answers_know_what_was_shown_before_their_time_and_no_more() -> None:
    source = Source((frames_of(range(12)), 3.0), ([End()], 3.1), newest=0.0)
    assert asked_of(source, every=1.0) == [(1.0, 4), (2.0, 8), (3.0, 12)]


def test_of_what_is_late_only_the_newest_is_asked() -> None:
    source = Source((frames_of(range(12)), 3.0), ([End()], 3.1), newest=3.1)
    assert asked_of(source, every=1.0) == [(3.0, 12)]
    source.batches = deque([(frames_of(range(12)), 3.0), ([End()], 3.1)])
    source.may_drop = False
    assert len(asked_of(source, every=1.0)) == 3


def test_who_is_always_late_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10_000))
    clock = SimpleNamespace(monotonic=lambda: next(now) * 0.5)
    monkeypatch.setattr("streaming.watch.round.time", clock)
    source = Source((frames_of(range(40)), 10.0), ([End()], 10.0), newest=1000.0)
    asked = asked_of(source, every=0.25)
    assert 5 <= len(asked) <= 15  # of forty


def test_nothing_new_is_nothing_asked() -> None:
    long_ago = (frames_of([0]), 50.0)
    source = Source(long_ago, (frames_of([220]), 56.0), ([End()], 57.0), newest=0.0)
    assert asked_of(source, every=1.0) == [(1.0, 1), (56.0, 2)]


def test_each_question_has_its_own_times() -> None:
    source = Source((frames_of(range(12)), 3.0), ([End()], 3.1), newest=0.0)
    often, seldom = Asker(), Asker()
    Watching(source, Clip(), {1.0: often, 2.0: seldom}).run()
    assert often.asked == [(1.0, 4), (2.0, 8), (3.0, 12)]
    assert seldom.asked == [(2.0, 8), (3.1, 12)]


def test_a_clock_that_jumps_by_years_is_not_followed_second_by_second() -> None:
    years = 10**9
    source = Source((frames_of([0, 4 * years]), years + 0.5), ([End()], years + 0.6), newest=0.0)
    assert asked_of(source, every=0.1) == [(0.1, 1), (pytest.approx(years + 0.1), 2)]


def test_a_source_that_is_given_up_is_an_error() -> None:
    with pytest.raises(VideoOpenError, match=r"^camera: no picture for 60 s$"):
        asked_of(Source(([End(error="camera: no picture for 60 s")], None), newest=0.0), every=1.0)
