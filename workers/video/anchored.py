"""A segment's pictures, each chunk behind the anchor that its frames are compared with."""

from collections.abc import Iterator

import numpy as np

from workers.frames import PictureChunk
from workers.video.decode import read_pictures
from workers.video.segments import Segment
from workers.vision.anchors import anchor_of


def read_anchored(
    segment: Segment, anchor_segment: Segment | None
) -> Iterator[tuple[PictureChunk, PictureChunk]]:
    """Yield each chunk of a segment alone, and with its anchor in front.

    A chunk that begins its group holds its anchor itself, if that could be read at all; where it
    could not, the two are the same.

    Args:
        segment: what to read.
        anchor_segment: the anchor alone, where the segment does not begin with it.
    """
    anchor = None
    if anchor_segment is not None:
        (anchor,) = read_pictures(anchor_segment)
    pictures = read_pictures(segment)
    for part in segment.chunks():
        chunk = next(pictures)
        if part.first_frame == anchor_of(part.first_frame):
            anchor = chunk[np.flatnonzero(chunk.frame_indices == part.first_frame)]
            yield chunk, chunk
        else:
            yield chunk, chunk if anchor is None else chunk.behind(anchor)
