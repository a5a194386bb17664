"""Cutting a clip into segments and chunks, and putting decoded pictures into a chunk."""

import numpy as np

from workers.errors import InputError
from workers.messages import Float64Array, FrameChunk, Int64Array, Segment, UInt8Array, VideoIndex
from workers.video.container import display_name


def cut_segments(
    index: VideoIndex,
    frame_indices: Int64Array,
    *,
    decoder: str,
    frames_per_chunk: int,
    num_segments: int,
) -> list[Segment]:
    """Cut the sampled frames of a clip into contiguous segments of whole chunks.

    The segments differ by at most one chunk in length, the longer ones first. A clip that must be
    read from its beginning, or has one keyframe only, becomes one segment: more would each decode
    the same pictures again.

    Args:
        index: the clip.
        frame_indices: (n,) int64, ascending, positions in ``index.pts``.
        decoder: name of the back end, see ``workers.video.decode.DECODERS``.
        frames_per_chunk: frames in each chunk but the last, at least 1.
        num_segments: wanted number of segments, at least 1; fewer come out where there are fewer
            chunks.

    Returns:
        Segments in source order; none for no frames.

    Raises:
        InputError: ``frames_per_chunk`` or ``num_segments`` below 1.

    Cost: O(n).
    """
    if frames_per_chunk < 1 or num_segments < 1:
        raise InputError(
            f"chunks and segments are at least one: {frames_per_chunk = } {num_segments = }"
        )
    num_chunks = -(-len(frame_indices) // frames_per_chunk)
    if not index.seekable or len(index.keyframe_pts) == 1:
        num_segments = 1
    pts = index.pts[frame_indices]
    parts = np.array_split(np.arange(num_chunks), min(num_segments, num_chunks) or 1)
    bounds = [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
    return [
        Segment(
            index=index,
            decoder=decoder,
            first_frame=start * frames_per_chunk,
            pts=pts[start * frames_per_chunk : end * frames_per_chunk],
            frames_per_chunk=frames_per_chunk,
        )
        for start, end in bounds
    ]


def chunk_starts(segment: Segment) -> range:
    """Return the position in ``segment.pts`` at which each of its chunks starts."""
    return range(0, len(segment.pts), segment.frames_per_chunk)


def source_seconds(index: VideoIndex, pts: Int64Array) -> Float64Array:
    """Return presentation times in seconds, as they stand in the source."""
    return pts.astype(np.float64) * index.time_base_seconds


class ChunkFiller:
    """Collects the pictures of one chunk in one array of their final size."""

    def __init__(self, segment: Segment, start: int) -> None:
        self._segment = segment
        self._start = start
        self.pts = segment.pts[start : start + segment.frames_per_chunk]
        index = segment.index
        self._frames = np.empty((len(self.pts), index.height, index.width, 3), np.uint8)
        self._found: list[int] = []

    def add(self, position: int, picture: UInt8Array) -> None:
        """Store the picture of ``self.pts[position]``; positions ascend."""
        self._frames[len(self._found)] = picture
        self._found.append(position)

    def chunk(self, troubles: str) -> FrameChunk:
        """Return the finished chunk, with a warning that names its missing pictures if any."""
        segment = self._segment
        found = np.array(self._found, np.int64)
        missing = np.delete(self.pts, found)
        first_frame = segment.first_frame + self._start
        return FrameChunk(
            chunk_index=first_frame // segment.frames_per_chunk,
            frame_indices=first_frame + found,
            pts_seconds=source_seconds(segment.index, self.pts[found]),
            frames=self._frames[: len(found)],
            warnings=_missing_warnings(segment.index, missing, troubles),
        )


def _missing_warnings(index: VideoIndex, missing: Int64Array, troubles: str) -> tuple[str, ...]:
    if len(missing) == 0:
        return ()
    times = ", ".join(f"{seconds:.3f}" for seconds in source_seconds(index, missing))
    return (
        f"{display_name(index.path)}: {len(missing)} sampled frames cannot be decoded, "
        f"shown at {times} s ({troubles})",
    )
