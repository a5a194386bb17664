"""How far a stream is behind itself: its clock against the wall's."""

import math

_PERIOD_SECONDS = 300.0


class Lag:
    """Compares media time with wall time; the fastest picture of late is the one on time.

    Two clocks drift apart by seconds a day, so what counts as on time is found anew: in the
    present period of five minutes and the one before.

    Args:
        speed: media seconds a wall second.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._least = self._least_before = math.inf
        self._period_ends = -math.inf

    @property
    def origin_seconds(self) -> float:
        """When (wall) a picture of media time 0 came if it was on time; infinite before any."""
        return min(self._least, self._least_before)

    def add(self, media_seconds: float, now_seconds: float) -> float:
        """Take a picture that comes now; return how late it is, in wall seconds."""
        if now_seconds > self._period_ends:
            self._least_before, self._least = self._least, math.inf
            self._period_ends = now_seconds + _PERIOD_SECONDS
        start = now_seconds - media_seconds / self._speed
        self._least = min(self._least, start)
        return start - self.origin_seconds
