"""Standing questions that are asked together, and when they are due."""

import math
import time

from streaming.watch.asker import Asker
from streaming.watch.live_clip import LiveClip
from workers.errors import ModelError, WorkerError
from workers.video.live.source import LiveSource
from workers.video.live.ticks import Ticks

_PATIENCE_SECONDS = 2.0
"""Without an answer for so long, one is asked for though it is late: or none might ever be."""


class Round:
    """Asks whenever so much media time has passed, where something new was seen since.

    Where nothing was, the visual sequence would be the same, and so would the answer. Of a source
    that does not wait, what is due is left out while what comes after it is due as well.

    Args:
        asker: asks.
        every_seconds: of media time, from one answer to the next.
    """

    def __init__(self, asker: Asker, every_seconds: float) -> None:
        self.asker = asker
        self._every = every_seconds
        self._num_due = 1
        self._num_asked_frames = 0
        self._asked_at = time.monotonic()

    def due(self, ticks: Ticks) -> float:
        """Return the media time of the next answer."""
        return ticks.first_seconds + self._num_due * self._every

    def ask_due(
        self, clip: LiveClip, source: LiveSource, ticks: Ticks, until_seconds: float
    ) -> None:
        """Ask what is due next, of a clip to which nothing comes before a media time.

        What is due up to then, and would find nothing new, is not gone through one by one: a clock
        may jump by years.
        """
        due = self.due(ticks)
        self._num_due += 1
        if not (source.may_drop and self._is_late(source, ticks)):
            self.ask(clip, due, source)
        if self._num_asked_frames == clip.num_frames:
            since = until_seconds - ticks.first_seconds
            self._num_due = max(self._num_due, math.floor(since / self._every))

    def ask(self, clip: LiveClip, media_seconds: float, source: LiveSource) -> None:
        """Ask about a clip as it is at a media time, if it is another one than the last time.

        Raises:
            StreamError: a model or a worker failed, and the asker does not do without an answer.
        """
        held = clip.hold()
        if held.num_frames > self._num_asked_frames and held.frames:
            self._num_asked_frames = held.num_frames
            try:
                self.asker.ask(clip.watch(), held, media_seconds, source)
            except (ModelError, WorkerError) as error:
                self.asker.miss(error, media_seconds)
            self._asked_at = time.monotonic()

    def _is_late(self, source: LiveSource, ticks: Ticks) -> bool:
        """Return whether what is due next is due as well, and an answer has been given of late."""
        newest, asked = source.newest_seconds, time.monotonic() - self._asked_at
        is_due = newest is not None and newest >= self.due(ticks)
        return is_due and asked < max(self._every, _PATIENCE_SECONDS)
