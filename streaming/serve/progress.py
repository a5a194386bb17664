"""How far a clip is while it is encoded, told to a client that wants to know."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeProgress:
    """Of a clip's ``num_frames`` that are looked at ``frames_done`` are encoded."""

    frames_done: int
    num_frames: int


class Teller:
    """Tells a client what is new, a few times a second at most, and of the last frame at once.

    Args:
        num_frames: of the clip.
        tell: the client.
    """

    def __init__(self, num_frames: int, tell: Callable[[EncodeProgress], object]) -> None:
        self._num_frames = num_frames
        self._tell = tell
        self._told = -1
        self._next = 0.0

    def __call__(self, frames_done: int) -> None:
        """Say that so many frames are encoded."""
        now = time.monotonic()
        is_due = now >= self._next or frames_done == self._num_frames
        if frames_done != self._told and is_due:
            self._told, self._next = frames_done, now + _PAUSE_SECONDS
            self._tell(EncodeProgress(frames_done=frames_done, num_frames=self._num_frames))
