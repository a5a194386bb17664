"""A stream: a source that is read and held, what is asked of it again and again, how it stands."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from streaming.command import say
from streaming.pipeline import WatchedClip
from streaming.serve.failures import RequestError, explain
from streaming.serve.streams.event_log import EventLog
from streaming.serve.streams.request import show_question
from streaming.serve.streams.wording import Wording
from streaming.watch.asker import MOST_GAPS, Asker
from streaming.watch.held import Held, reached_seconds
from streaming.watch.live_clip import LiveClip, warm_up
from streaming.watch.plan import LivePlan
from streaming.watch.record import LiveAnswer
from streaming.watch.standing import StandingQuestion
from streaming.watch.watching import Watching
from workers.errors import StreamError, VideoError
from workers.run.engine import Engine
from workers.video.live.events import Away, Event, Gap, LiveFrame
from workers.video.live.source import LiveSource

_MOST_MISSED = 10
"""Times in a row at which standing questions could not be answered, after which a stream fails."""


class _EndedError(Exception):
    """Nobody wants what comes of a stream any more."""


class Stream:
    """Feeds a clip from a source, in a thread of its own, and tells what happens in a log.

    What it holds can be asked about by any thread, also once it has ended.

    Args:
        stream_id: what clients call it.
        engine: with workers.
        plan: of the clip, whose name is the stream's.
        source: not being read yet.
        questions: asked again and again.
        max_pixels: of a picture.
    """

    def __init__(
        self,
        stream_id: str,
        engine: Engine,
        plan: LivePlan,
        source: LiveSource,
        questions: Sequence[StandingQuestion],
        max_pixels: int,
    ) -> None:
        self.stream_id = stream_id
        self.plan = plan
        self.log = EventLog()
        self._engine = engine
        self._source = source
        self._questions = questions
        self._max_pixels = max_pixels
        self._clip = LiveClip(engine, plan)
        self._wording = Wording(plan.name, source.address)
        self._created = int(time.time())
        self._gaps: tuple[Gap, ...] = ()
        self._num_gaps = 0
        self._away_at: float | None = None
        """The media time reached when the source was lost for the last time."""
        self._outcome: str | None = None
        self._error: str | None = None
        self._ending = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="stream", daemon=True)
        """At work until the stream has ended, and for a moment after that."""

    def start(self) -> None:
        """Open the source, and read it to its end."""
        self.thread.start()

    def close(self) -> None:
        """End it, whatever it does; its reading process is killed."""
        self._end("deleted")
        self._source.close()

    def look(self, plan: LivePlan) -> tuple[WatchedClip, float | None]:
        """Return what is held now, ready to be asked about, and the media time that it is of.

        Args:
            plan: the stream's, or a question's; see :meth:`LiveClip.look`.

        Raises:
            StreamError: nothing is held, the budget is too small, or a worker failed.
        """
        held, watched = self._clip.look(plan)
        return watched, self._reached(held)

    def hold(self) -> Held:
        """Return what is held now."""
        return self._clip.hold()

    @property
    def num_dropped_frames(self) -> int:
        """Sampled frames that were not taken in time."""
        return self._source.num_dropped

    @property
    def status(self) -> str:
        """How it stands: connecting, live, reconnecting, ended, failed or deleted."""
        newest = self._source.newest_seconds
        if self._outcome is not None:
            return self._outcome
        if newest is None:
            return "connecting"
        is_away = self._away_at is not None and newest <= self._away_at
        return "reconnecting" if is_away else "live"

    def to_json(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        held = self.hold()
        reached = self._reached(held)
        lag = None if reached is None else self._source.lag_seconds(reached)
        return {
            "id": self.stream_id,
            "object": "stream",
            "created_at": self._created,
            "name": self.plan.name,
            "status": self.status,
            "error": self._error,
            "reached_seconds": _rounded(reached),
            "lag_seconds": _rounded(lag) if self._outcome is None else None,
            "num_seen_frames": held.num_frames,
            "num_dropped_frames": self.num_dropped_frames,
            "num_held_frames": len(held.frames),
            "num_held_tokens": held.num_tokens,
            "max_held_tokens": self.plan.max_held_tokens,
            "budget": self.plan.budget,
            "num_gaps": self._num_gaps,
            "gaps": [asdict(gap) for gap in self._gaps],
            "questions": [show_question(each) for each in self._questions],
        }

    def _run(self) -> None:
        try:
            warm_up(self._engine, self.plan)
            with self._source:
                Watching(self._source, self._clip, self._askers(), self._hear).run()
            self._end("ended")
        except Exception as error:
            if self._outcome is None:  # what fails once it was ended is no failure
                self._fail(error)

    def _askers(self) -> dict[float, Asker]:
        """Return who asks, by how often: questions of the same times are asked together."""
        by_time: dict[float, list[StandingQuestion]] = {}
        for each in self._questions:
            by_time.setdefault(each.every_seconds, []).append(each)
        return {
            every: Asker(self._engine, self.plan, questions, self._tell, self._check, self._miss)
            for every, questions in by_time.items()
        }

    def _tell(self, answer: LiveAnswer) -> None:
        shown = replace(answer, gaps=[self._wording.gap(gap) for gap in answer.gaps])
        self.log.put("answer", shown.to_json())

    def _check(self) -> None:
        if self._outcome is not None:
            raise _EndedError

    def _miss(self, error: StreamError, media_seconds: float, num_in_a_row: int) -> None:
        """Tell that there are no answers of a time; raises the error where there will be none."""
        self._check()
        if self._engine.failure is not None or num_in_a_row >= _MOST_MISSED:
            raise error
        told = explain(error, self._wording.named).message
        missed = {"source": self.plan.name, "media_seconds": _rounded(media_seconds)}
        self.log.put("answer", {**missed, "error": told})

    def _hear(self, event: Event) -> None:
        self._check()
        if isinstance(event, LiveFrame):
            self._check_size(event)
        elif isinstance(event, Gap):
            gap = self._wording.gap(event)
            self._num_gaps += 1
            self._gaps = (*self._gaps, gap)[-MOST_GAPS:]
            self.log.put("gap", asdict(gap))
        elif isinstance(event, Away):
            self._away_at = self._source.newest_seconds
            say(f"{self.stream_id}: {self._wording.named(event.reason)}")

    def _check_size(self, frame: LiveFrame) -> None:
        height, width = frame.picture.shape[:2]
        if height * width > self._max_pixels:
            reason = f"exceed the {self._max_pixels:,} pixels taken here"
            raise RequestError(422, "media_too_large", f"pictures of {width}x{height} {reason}")

    def _fail(self, error: Exception) -> None:
        say(f"{self.stream_id}: failed: {self._wording.named(str(error))}")
        told = explain(error, self._wording.named).message
        if isinstance(error, VideoError):
            told = f"{self.plan.name}: {self._wording.plain(str(error))}"
        self._end("failed", told)

    def _end(self, outcome: str, error: str | None = None) -> None:
        with self._ending:
            if self._outcome is not None:
                return
            self._error, self._outcome = error, outcome
        reached = _rounded(self._reached(self.hold()))
        value = {"status": outcome, "error": error, "reached_seconds": reached}
        self.log.put("end", value, is_last=True)

    def _reached(self, held: Held) -> float | None:
        return reached_seconds(held, self._source.ticks, self._source.newest_seconds)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
