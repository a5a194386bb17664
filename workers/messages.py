"""What travels between the stages: frozen dataclasses of numpy arrays, strings and numbers.

Ray hands arrays to the reader as read-only views of shared memory, so nobody writes into a message;
a stage returns a new one. numpy has no bfloat16: such features travel as ``uint16`` bit patterns
beside the name of their dtype.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoIndex:
    """Every displayable picture of a clip by presentation time, from one pass over its packets.

    ``pts`` is ascending without repetition, in units of ``time_base_seconds``; ``width`` and
    ``height`` are pixels as displayed, after ``rotation_degrees`` has been applied.
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

    @property
    def num_frames(self) -> int:
        """Number of displayable pictures."""
        return len(self.pts)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded RGB picture."""
        return self.width * self.height * 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A run of chunks that one decode worker reads in one go.

    Frame ``i`` of the sampled clip has the presentation time ``pts[i - first_frame]``; chunk
    ``c`` holds the sampled frames ``c * frames_per_chunk`` up to the next multiple.
    """

    index: VideoIndex
    decoder: str
    first_frame: int
    pts: Int64Array
    frames_per_chunk: int

    def __post_init__(self) -> None:
        if self.first_frame % self.frames_per_chunk:
            raise ValueError(
                f"a segment starts on a chunk border: {self.first_frame = } {self.frames_per_chunk = }"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameChunk:
    """Decoded pictures of one chunk, in presentation order.

    ``frame_indices[i]`` is the position of ``frames[i]`` (height, width, 3) among the sampled
    frames and ``pts_seconds[i]`` its presentation time in the source. Frames that could not be
    decoded are absent here and named in ``warnings``.
    """

    chunk_index: int
    frame_indices: Int64Array
    pts_seconds: Float64Array
    frames: UInt8Array
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are (n, height, width, 3) uint8: {self.frames.shape = }")
        if not len(self.frames) == len(self.frame_indices) == len(self.pts_seconds):
            raise ValueError(
                f"one index and one time a frame: {len(self.frames) = } "
                f"{len(self.frame_indices) = } {len(self.pts_seconds) = }"
            )

    def __repr__(self) -> str:
        return f"FrameChunk({self.chunk_index}, frames={self.frames.shape})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSelection:
    """What the language model got of one frame, and why.

    ``keep_indices`` are ascending flat indices into the frame's unpruned order: ``num_base`` base
    tokens (row-major over a square), then ``rows`` rows of ``columns`` grid tokens, each row
    followed by its newline. The grid covers the whole displayed picture.
    """

    frame_index: int
    pts_seconds: float
    num_base: int
    rows: int
    columns: int
    keep_indices: Int64Array
    num_marker_tokens: int
    base_informativeness: float
    grid_informativeness: float
    novelty: float
    thumbnail_jpeg: bytes

    @property
    def num_visual_tokens(self) -> int:
        """Tokens of this frame in the language model's sequence, its time mark included."""
        return len(self.keep_indices) + self.num_marker_tokens
