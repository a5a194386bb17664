"""A stream that is watched: its clip is fed, and asked about, in the order of media time."""

from collections.abc import Callable, Mapping, Sequence

from streaming.watch.asker import Asker
from streaming.watch.live_clip import LiveClip
from streaming.watch.record import clock
from streaming.watch.round import Round
from workers.errors import VideoOpenError
from workers.video.live.events import End, Event, Gap, LiveFrame
from workers.video.live.source import LiveSource

_WAIT_SECONDS = 1.0


class Watching:
    """Feeds a clip from a source, and has it asked whenever that is due.

    Frames and questions are in the order of media time: at a time t the clip holds the frames shown
    before t, and no other (see :class:`streaming.watch.round.Round`).

    Args:
        source: is being read.
        clip: is fed.
        askers: ask, by how many media seconds there are from one answer to the next.
        hear: told of every event before the clip is.
    """

    def __init__(
        self,
        source: LiveSource,
        clip: LiveClip,
        askers: Mapping[float, Asker],
        hear: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._source = source
        self._clip = clip
        self._rounds = [Round(asker, every) for every, asker in askers.items()]
        self._hear = hear
        self._reached: float | None = None
        self._num_gaps = 0
        self._gap_seconds = 0.0

    def run(self) -> None:
        """Go on to the end of the source.

        Raises:
            VideoOpenError: it was given up.
            StreamError: a model or a worker failed.
        """
        end: End | None = None
        while end is None:
            events, reached = self._source.take(_WAIT_SECONDS)
            end = self._take(events)
            if reached is not None:
                self._reached = reached
                self._ask_up_to(reached)
        if end.error is not None:
            raise VideoOpenError(end.error)
        if self._reached is not None:
            for each in self._rounds:
                each.ask(self._clip, self._reached, self._source)

    def summary(self) -> str:
        """Return in one line what was seen."""
        held, source = self._clip.hold(), self._source
        seen = 0.0
        if self._reached is not None and source.ticks is not None:
            seen = self._reached - source.ticks.first_seconds
        num_answers = sum(each.asker.num_answers for each in self._rounds)
        return (
            f"seen {clock(seen)} in {held.num_frames:,} frames ({source.num_dropped:,} dropped, "
            f"{self._num_gaps:,} gaps of {self._gap_seconds:.1f} s), {num_answers:,} answers; held "
            f"are {len(held.frames):,} frames with {held.num_tokens:,} tokens (at most "
            f"{self._clip.plan.max_held_tokens:,})"
        )

    def _take(self, events: Sequence[Event]) -> End | None:
        frames: list[LiveFrame] = []
        for event in events:
            self._hear(event)
            if isinstance(event, LiveFrame):
                frames = self._ask_before(event, frames)
                frames.append(event)
            elif isinstance(event, Gap):
                self._note(event)
        self._clip.feed(frames)
        return next((event for event in events if isinstance(event, End)), None)

    def _note(self, gap: Gap) -> None:
        self._num_gaps += 1
        self._gap_seconds += gap.end_seconds - gap.start_seconds
        for each in self._rounds:
            each.asker.note(gap)

    def _ask_before(self, frame: LiveFrame, waiting: list[LiveFrame]) -> list[LiveFrame]:
        """Ask what is due before a frame is shown; return the frames that still wait."""
        ticks = self._source.ticks
        if ticks is None:
            return waiting
        shown = ticks.at(frame.tick) + ticks.tolerance_seconds
        if self._next_due(shown) is None:
            return waiting
        self._clip.feed(waiting)
        self._ask_up_to(shown)
        return []

    def _ask_up_to(self, seconds: float) -> None:
        """Ask what is due up to a media time, in the order of media time."""
        ticks = self._source.ticks
        while ticks is not None and (due := self._next_due(seconds)) is not None:
            due.ask_due(self._clip, self._source, ticks, seconds)

    def _next_due(self, seconds: float) -> Round | None:
        """Return whose questions come next, if they are due by a media time."""
        ticks = self._source.ticks
        if ticks is None or not self._rounds:
            return None
        first = min(self._rounds, key=lambda each: each.due(ticks))
        return first if first.due(ticks) <= seconds else None
