"""What a video holds, and when each picture is shown."""

from dataclasses import dataclass, field

import numpy as np

from workers.arrays import Float64Array, Int64Array
from workers.errors import display_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoIndex:
    """Every displayable picture of a clip by presentation time, from one pass over its packets.

    ``pts`` is ascending without repetition, in units of ``time_base_seconds``. ``width`` and
    ``height`` are pixels as displayed: square ones (the stored width is stretched where stored
    pixels are not square) and upright, which takes ``rotation_degrees`` counter-clockwise, then a
    swap of left and right where ``mirrored``.
    """

    path: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    time_base_seconds: float
    pts: Int64Array
    seekable: bool
    """False where seeking by time is not reliable: the clip is then read from its beginning."""
    warnings: tuple[str, ...] = ()
    keyframe_pts: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Ascending presentation times at which decoding can start, in the units of ``pts``."""
    open_gop: bool = False
    """True where pictures shown before a keyframe are stored after it and need what precedes it."""
    numbered: bool = False
    """True where pictures carry no usable time: the i-th one decoded is shown at ``pts[i]``."""
    numbers: Int64Array | None = None
    """Where a numbered clip has been cut: how many pictures are decoded before each in ``pts``."""
    mirrored: bool = False
    trimmed: bool = False
    """True where the file holds pictures that its edit list cuts away."""
    size_bytes: int = 0
    """Of the file; with ``mtime_ns`` it tells one version of the file from another."""
    mtime_ns: int = 0

    @property
    def name(self) -> str:
        """The path, fit for a one-line message."""
        return display_name(self.path)

    @property
    def num_frames(self) -> int:
        """Number of displayable pictures."""
        return len(self.pts)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded RGB picture."""
        return self.width * self.height * 3

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells this version of this file from others."""
        return self.path, self.size_bytes, self.mtime_ns

    def size_of(self, frame_position: int) -> tuple[int, int]:
        """Return the displayed (height, width) of a picture; in a video all are of one size."""
        return self.height, self.width

    def pts_seconds(self, positions: Int64Array) -> Float64Array:
        """Return source times, (n,) float64 seconds, of pictures by position."""
        return self.pts[positions].astype(np.float64) * self.time_base_seconds
