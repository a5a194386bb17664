"""Cutting a clip into segments and chunks."""

from collections.abc import Iterator
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


_MOST_TWICE = 0.1
"""Of the pictures that a segment decodes, so many may be decoded again for the one behind it."""

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

    They differ by at most one chunk in length. With ``min_chunks`` they are cut instead where few
    pictures are decoded for both sides, a tenth of the segment's at most: as short as that many
    chunks where it costs least, and longer than ``max_chunks`` where no cut before is so cheap. A
    clip that must be read from its beginning, or has one keyframe only, becomes one segment of any
    length: more would each decode the same pictures again.

    Args:
        clip_id: name of the clip, which every chunk of pictures bears.
        source: the clip, from ``workers.video.source.open_source``.
        frame_indices: (n,) int64, ascending, positions in the source.
        decoder: name of the back end, see ``workers.video.decode.DECODERS``; images have none.
        frames_per_chunk: frames in each chunk but the last, at least 1.
        max_chunks: at least 1.
        min_chunks: chunks of a segment at least, None to cut into even lengths whatever it costs.

    Returns:
        Segments in source order; none for no frames.

    Raises:
        InputError: ``frames_per_chunk`` or ``max_chunks`` below 1.

    Cost: O((n + segments) * log(pictures)).
    """
    if frames_per_chunk < 1 or max_chunks < 1:
        raise InputError(
            f"chunks and segments are at least one: {frames_per_chunk = } {max_chunks = }"
        )
    if isinstance(source, VideoIndex) and _is_read_from_the_beginning(source):
        bounds = [0, len(frame_indices)] if len(frame_indices) else []
    elif min_chunks is None:
        bounds = _even_bounds(len(frame_indices), frames_per_chunk, max_chunks)
    else:
        twice, once = _pictures_decoded(source, frame_indices)
        shortest, longest = min_chunks * frames_per_chunk, max_chunks * frames_per_chunk
        bounds = _cheap_bounds(twice, once, frames_per_chunk, shortest, longest)
    return [
        _make_segment(clip_id, source, frame_indices[start:end], start, decoder, frames_per_chunk)
        for start, end in pairwise(bounds)
    ]


def _even_bounds(num_frames: int, step: int, max_chunks: int) -> list[int]:
    """Return bounds of segments that differ by one chunk of ``step`` frames at most."""
    num_chunks = -(-num_frames // step)
    num_segments = -(-num_chunks // max_chunks)
    parts = np.arange(num_segments + 1) * num_chunks
    bounds: list[int] = (-(-parts // max(num_segments, 1)) * step).tolist()
    return bounds


def _pictures_decoded(
    source: VideoIndex | ImageSource, frame_indices: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Return, (n,) each, the pictures that a cut before a frame has decoded again, and without.

    Both count from the last keyframe at or before a frame; without a cut, decoding goes on from the
    frame before where that is later.
    """
    if isinstance(source, ImageSource):
        return np.zeros_like(frame_indices), np.ones_like(frame_indices)
    keyframes = np.searchsorted(source.pts, source.keyframe_pts)
    start = np.append(0, keyframes)[np.searchsorted(keyframes, frame_indices, "right")]
    after = np.concatenate([[0], frame_indices[:-1] + 1])
    once = frame_indices + 1 - np.maximum(start, after)
    return frame_indices + 1 - start - once, once


def _cheap_bounds(
    twice: Int64Array, once: Int64Array, step: int, shortest: int, longest: int
) -> list[int]:
    """Return bounds, multiples of ``step``, at which few pictures are decoded twice.

    A segment ends at the cheapest place from ``shortest`` to ``longest`` frames on that costs no
    more than ``_MOST_TWICE`` of the pictures before it, the nearest of equals; where there is none,
    at such a place of the next stretch as long, and so on.
    """
    done = np.concatenate([[0], np.cumsum(once)])
    bounds, first = [0], shortest
    while first <= len(once) - shortest:
        last = min(first + longest - shortest, len(once) - shortest)
        places = np.arange(first, last + 1, step)
        costs = done[places] - done[bounds[-1]]
        places = places[twice[places] <= _MOST_TWICE * costs]
        if len(places):
            bounds.append(int(places[np.argmin(twice[places])]))
        first = bounds[-1] + shortest if len(places) else first + longest - shortest + step
    return [*bounds, len(once)] if len(once) else []


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
