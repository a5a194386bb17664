"""What a watched source comes to: pictures, gaps, and its end."""

from dataclasses import dataclass

from workers.arrays import UInt8Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveFrame:
    """A sampled picture (height, width, 3) and its media time; ``tick`` is the first it is at."""

    picture: UInt8Array
    pts_seconds: float
    tick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Media time of which nothing, or not every sampled picture, has come, and why.

    Its ends are the pictures on its two sides: where they are one, nothing is missing.
    ``wall_seconds`` is how long nothing came, 0 where pictures came too fast.
    """

    start_seconds: float
    end_seconds: float
    wall_seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The source is over, or given up: then with the reason."""

    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The source cannot be read at present, and is opened again after a pause."""

    reason: str
    pause_seconds: float


Event = LiveFrame | Gap | Away | End
