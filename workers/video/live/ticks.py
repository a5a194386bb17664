"""Which pictures of a stream are sampled, told as they come."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """The times ``first_seconds + k / fps`` at which a stream is looked at.

    A picture is sampled if it is shown at one of them: the same ones as
    ``workers.video.sampling.sample_frames`` chooses by ``fps`` in a file that holds the pictures.
    ``tolerance_seconds`` is what a time may be off by rounding: a thousandth of the time base.
    """

    first_seconds: float
    fps: float
    tolerance_seconds: float

    def before(self, seconds: float) -> int:
        """Return how many ticks come before a time; a picture shown from it on is at the next."""
        since = seconds - self.first_seconds - self.tolerance_seconds
        return max(0, math.ceil(since * self.fps))

    def at(self, tick: int) -> float:
        """Return the time of a tick; the first is number 0."""
        return self.first_seconds + tick / self.fps
