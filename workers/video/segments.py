"""Cutting a clip into segments and chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np

from workers.arrays import Float64Array, Int64Array
from workers.errors import InputError
from workers.video.images import ImageSegment, ImageSource
from workers.video.video_index import VideoIndex


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoSegment:
    """A run of sampled frames of one video that one worker reads in one go.

    Frame ``first_frame + i`` of the sampled clip has the presentation time ``pts[i]``, in the units
    of ``index``, which is cut to what reading these frames needs (see :func:`cut_index`). A slice
    is a segment of some of the frames, wherever it begins.
    """

    clip_id: str
    index: VideoIndex
    decoder: str
    first_frame: int
    pts: Int64Array
    frames_per_chunk: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.pts)

    @property
    def pts_seconds(self) -> Float64Array:
        """Source times of the frames."""
        return self.pts.astype(np.float64) * self.index.time_base_seconds

    def __getitem__(self, frames: slice) -> Self:
        start, stop, step = frames.indices(len(self))
        if step != 1:
            raise ValueError(f"a segment is contiguous: {frames = }")
        pts = self.pts[start:stop]
        return replace(
            self, index=cut_index(self.index, pts), first_frame=self.first_frame + start, pts=pts
        )

    def chunks(self) -> Iterator[Self]:
        """Yield slices of ``frames_per_chunk`` frames, the last one perhaps of fewer."""
        for start in range(0, len(self), self.frames_per_chunk):
            yield self[start : start + self.frames_per_chunk]

    def __repr__(self) -> str:
        frames = f"frames {self.first_frame} to {self.first_frame + len(self) - 1}"
        return f"VideoSegment({self.clip_id}, {frames}, {self.decoder})"


Segment = VideoSegment | ImageSegment
"""What ``workers.video.decode.read_pictures`` reads."""


def cut_segments(
    clip_id: str,
    source: VideoIndex | ImageSource,
    frame_indices: Int64Array,
    *,
    decoder: str,
    frames_per_chunk: int,
    max_chunks: int,
    min_chunks: int | None = None,
) -> list[Segment]:
    """Cut the sampled frames of a clip into contiguous segments of at most ``max_chunks`` chunks.

    The segments differ by at most one chunk in length; with ``min_chunks`` they are cut again where
    that costs nothing, as no picture is decoded for both sides of a cut. A clip that must be read
    from its beginning, or has one keyframe only, becomes one segment of any length: more would each
    decode the same pictures again.

    Args:
        clip_id: name of the clip, which every chunk of pictures bears.
        source: the clip, from ``workers.video.source.open_source``.
        frame_indices: (n,) int64, ascending, positions in the source.
        decoder: name of the back end, see ``workers.video.decode.DECODERS``; images have none.
        frames_per_chunk: frames in each chunk but the last, at least 1.
        max_chunks: at least 1.
        min_chunks: chunks of a segment from which it may be cut again, None never to do so.

    Returns:
        Segments in source order; none for no frames.

    Raises:
        InputError: ``frames_per_chunk`` or ``max_chunks`` below 1.

    Cost: O(n + segments * log(pictures)).
    """
    if frames_per_chunk < 1 or max_chunks < 1:
        raise InputError(
            f"chunks and segments are at least one: {frames_per_chunk = } {max_chunks = }"
        )
    num_chunks = -(-len(frame_indices) // frames_per_chunk)
    num_segments = -(-num_chunks // max_chunks)
    if isinstance(source, VideoIndex) and _is_read_from_the_beginning(source):
        num_segments = min(num_segments, 1)
    parts = np.arange(num_segments + 1) * num_chunks
    bounds = (-(-parts // max(num_segments, 1)) * frames_per_chunk).tolist()
    if min_chunks is not None and num_segments:
        cheap = _cheap_cuts(source, frame_indices, min_chunks * frames_per_chunk)
        bounds = _with_cheap(bounds, cheap, min_chunks * frames_per_chunk)
    return [
        _make_segment(clip_id, source, frame_indices[start:end], start, decoder, frames_per_chunk)
        for start, end in pairwise(bounds)
    ]


def _cheap_cuts(
    source: VideoIndex | ImageSource, frame_indices: Int64Array, step: int
) -> list[int]:
    """Return the multiples of ``step`` where no picture is needed on both sides."""
    places = np.arange(step, len(frame_indices), step)
    if isinstance(source, VideoIndex):
        if _is_read_from_the_beginning(source):
            return []
        keyframes = np.searchsorted(source.keyframe_pts, source.pts[frame_indices], "right")
        places = places[keyframes[places] > keyframes[places - 1]]
    cuts: list[int] = places.tolist()
    return cuts


def _with_cheap(bounds: list[int], cheap: Sequence[int], step: int) -> list[int]:
    """Return bounds with those cheap ones added that leave at least a step on both sides."""
    kept = bounds[:1]
    for end in bounds[1:]:
        for cut in cheap:
            if kept[-1] + step <= cut <= end - step:
                kept.append(cut)
        kept.append(end)
    return kept


def _is_read_from_the_beginning(index: VideoIndex) -> bool:
    return not index.seekable or len(index.keyframe_pts) < 2


def _make_segment(
    clip_id: str,
    source: VideoIndex | ImageSource,
    positions: Int64Array,
    first_frame: int,
    decoder: str,
    frames_per_chunk: int,
) -> Segment:
    if isinstance(source, ImageSource):
        return ImageSegment(
            clip_id=clip_id,
            pictures=tuple(source.pictures[position] for position in positions),
            sizes=source.sizes[positions],
            pts_seconds=source.pts_seconds(positions),
            first_frame=first_frame,
            frames_per_chunk=frames_per_chunk,
        )
    pts = source.pts[positions]
    return VideoSegment(
        clip_id=clip_id,
        index=cut_index(source, pts),
        decoder=decoder,
        first_frame=first_frame,
        pts=pts,
        frames_per_chunk=frames_per_chunk,
    )


def cut_index(index: VideoIndex, pts: Int64Array) -> VideoIndex:
    """Return an index with no more in it than reading the pictures at ``pts`` takes.

    Of the times there stay those asked for and the first, from which some decoders count; of the
    keyframes the last one at or before each of these times, those 1, 3, 7, ... before it, to which
    reading goes back where a keyframe proves unsound, and the first. A numbered clip, whose
    pictures are counted, keeps the numbers of those asked for. What is left is read with the same
    result, bit for bit. ``warnings`` are for whoever has the whole.

    Args:
        index: of the whole clip, or cut before.
        pts: (n,) int64, ascending times in ``index.pts``.

    Cost: O(n * log(pictures)).
    """
    if index.numbered:
        places = np.searchsorted(index.pts, pts)
        return replace(
            index,
            pts=index.pts[places],
            numbers=places if index.numbers is None else index.numbers[places],
            keyframe_pts=index.keyframe_pts[:1],
            warnings=(),
        )
    return replace(
        index,
        pts=np.unique(np.concatenate([index.pts[:1], pts])),
        keyframe_pts=index.keyframe_pts[_places_to_start(index.keyframe_pts, pts)],
        warnings=(),
    )


def _places_to_start(keyframe_pts: Int64Array, pts: Int64Array) -> Int64Array:
    last = np.unique(np.searchsorted(keyframe_pts, pts, "right") - 1)
    back = 2 ** np.arange(len(keyframe_pts).bit_length() + 1) - 1
    places: Int64Array = np.unique(np.maximum(last[:, None] - back, 0))
    return places[places < len(keyframe_pts)]
