"""Media time: one clock for a stream whose own may be missing, jump, or begin again."""

import math
from dataclasses import dataclass

STEP_BACK_SECONDS = 1.0
"""A picture that is earlier by less is out of order; by more, the stream's clock was set anew."""
_FIRST_STEP_SECONDS = 0.04
_UNTIMED_AT_FIRST = 25
"""Pictures without a time, as cameras begin with, after which none is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where a stream stood when its connection was lost.

    ``last_seconds`` is the media time of the last picture, which may be shown still, and
    ``offset_seconds`` what was added to the stream's own time.
    """

    last_seconds: float
    offset_seconds: float


class MediaClock:
    """Turns the presentation times of one connection into media time, which never goes back.

    The first picture after a reconnection keeps the stream's own timeline where that can be: where
    it comes no earlier than ``replay_seconds`` before the last one, as with a playlist that is read
    again from an earlier segment, and no later than what has passed since, with ``slack_seconds``
    more. Else the stream's clock was set anew, and wall time tells how much is missing. Within a
    connection a clock that is set back goes on by the last step, so that media time depends on the
    pictures alone.

    Args:
        replay_seconds: how far back a source may begin again, infinite for a file.
        slack_seconds: how far beyond the wall time that has passed it may go on.
        resume: where the stream stood, None at its beginning.
    """

    def __init__(
        self, *, replay_seconds: float, slack_seconds: float, resume: Resume | None = None
    ) -> None:
        self._replay_seconds = replay_seconds
        self._slack_seconds = slack_seconds
        self._resume = resume
        self._step_seconds = _FIRST_STEP_SECONDS
        self.offset_seconds = resume.offset_seconds if resume else 0.0
        self.last_seconds = -math.inf
        """Of the last picture."""
        self._latest_pts: float | None = None
        """Of this connection, None before its first picture with a time."""
        self._num_untimed = 0
        self.num_resets = 0
        """How often the stream's clock was found to be set anew."""
        if resume:  # the last picture is taken once more: how long it was shown is not known
            self.last_seconds = math.nextafter(resume.last_seconds, -math.inf)

    def place(
        self, pts_seconds: float | None, elapsed_seconds: float | None = None
    ) -> float | None:
        """Return the media time of the next picture, None for one that has been seen.

        Args:
            pts_seconds: in the stream's own time, None where it tells none.
            elapsed_seconds: wall time since the picture before, also one of the connection before;
                None, where it tells nothing, for the last step between pictures.
        """
        elapsed = self._step_seconds if elapsed_seconds is None else elapsed_seconds
        if pts_seconds is None:
            self._num_untimed += 1
            if self._latest_pts is None and self._num_untimed < _UNTIMED_AT_FIRST:
                return None
            pts_seconds = max(self.last_seconds, 0.0) + elapsed - self.offset_seconds
        if self._latest_pts is None:
            self._join(pts_seconds, elapsed)
        elif pts_seconds < self._latest_pts - STEP_BACK_SECONDS:
            self._set(pts_seconds, self.last_seconds + self._step_seconds)
        return self._advance(pts_seconds)

    def _join(self, pts_seconds: float, elapsed: float) -> None:
        if self._resume is None:
            return
        last = self._resume.last_seconds
        step = pts_seconds + self.offset_seconds - last
        if not -self._replay_seconds <= step <= elapsed + self._slack_seconds:
            self._set(pts_seconds, last + elapsed)

    def _set(self, pts_seconds: float, media_seconds: float) -> None:
        self.offset_seconds = media_seconds - pts_seconds
        self.num_resets += 1

    def _advance(self, pts_seconds: float) -> float | None:
        joins, self._latest_pts = self._latest_pts is None, pts_seconds
        seconds = pts_seconds + self.offset_seconds
        if seconds <= self.last_seconds:
            return None
        if not joins:
            self._step_seconds = seconds - self.last_seconds
        self.last_seconds = seconds
        return seconds

    @property
    def end_seconds(self) -> float:
        """When the last picture ends, if it is shown for as long as the one before it."""
        return self.last_seconds + self._step_seconds
