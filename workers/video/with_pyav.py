"""Reading chosen pictures of a clip with PyAV; see :mod:`workers.video.finder`."""

from collections.abc import Iterator, Sequence

import numpy as np

from workers.arrays import UInt8Array
from workers.frames import PictureChunk
from workers.video.finder import PictureFinder
from workers.video.limits import Deadline
from workers.video.segments import VideoSegment


def decode_with_pyav(segment: VideoSegment, timeout_seconds: float) -> Iterator[PictureChunk]:
    """Yield the segment's chunks; see ``workers.video.decode.read_pictures``."""
    deadline = Deadline(segment.index.path, timeout_seconds)
    with PictureFinder(segment.index, segment.pts, deadline) as finder:
        for chunk in segment.chunks():
            # Whoever takes the pictures may have kept them for long.
            deadline.restart()
            pictures = [finder.find(pts) for pts in chunk.pts.tolist()]
            yield make_chunk(chunk, pictures, finder.troubles())


def make_chunk(
    chunk: VideoSegment, pictures: Sequence[UInt8Array | None], troubles: str
) -> PictureChunk:
    """Return the pictures of a chunk, with a warning that names those missing (None) if any."""
    index = chunk.index
    missing = np.array([picture is None for picture in pictures], bool)
    seconds = chunk.pts.astype(np.float64) * index.time_base_seconds
    times = ", ".join(f"{each:.3f}" for each in seconds[missing])
    warning = (
        f"{index.name}: {missing.sum()} sampled frames cannot be decoded, "
        f"shown at {times} s ({troubles})"
    )
    return PictureChunk(
        clip_id=chunk.clip_id,
        frame_indices=chunk.first_frame + np.flatnonzero(~missing),
        pts_seconds=seconds[~missing],
        pictures=tuple(picture for picture in pictures if picture is not None),
        warnings=(warning,) if missing.any() else (),
    )
