"""Which pictures of a clip to look at: evenly spread over its time, by number or by rate."""

import math
from typing import Protocol

import numpy as np

from workers.arrays import Float64Array, Int64Array
from workers.errors import InputError
from workers.video.video_index import VideoIndex

_JUMP_SECONDS = 10.0
_JUMP_STEPS = 10


class Timed(Protocol):
    """A source of pictures, each shown from a time on: ``VideoIndex`` or ``ImageSource``."""

    @property
    def pts(self) -> Int64Array:
        """(n,) int64 ascending times."""

    @property
    def time_base_seconds(self) -> float:
        """The unit of ``pts``."""

    @property
    def seekable(self) -> bool:
        """False where the clock may jump."""


def jump_ticks(steps: Int64Array, time_base_seconds: float) -> int:
    """Return the longest step that is no jump of the clock, in a clip whose clock may jump.

    That is ten seconds, or ten typical (median) steps where pictures come as seldom as that.
    """
    typical = int(np.median(steps)) if len(steps) else 0
    return max(round(_JUMP_SECONDS / time_base_seconds), _JUMP_STEPS * typical)


def sample_frames(
    index: Timed,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Int64Array:
    """Choose pictures of a clip, evenly over a window of its time.

    All times are those of the source, as they are printed with the pictures: in a clip whose times
    begin at 1.4 s, the window from 2 s on leaves out its first 0.6 s. The picture shown at a time
    is the last one that starts at or before it; the last picture of a clip stays for one typical
    (median) duration. With ``num_frames`` the window is cut into that many equal bins and each
    gives the picture shown at its centre; where several centres fall on one picture its neighbours
    take their place, so that exactly ``num_frames`` distinct ones come out, or all when the window
    shows fewer. With ``fps`` the pictures shown at ``start + k / fps`` are chosen, each once.

    In a clip that is not ``seekable`` a hole of more than ten seconds (and ten typical durations)
    counts as one typical duration inside the window, so that a jump of the clock does not swallow
    the sampling.

    Args:
        index: the clip, a ``VideoIndex`` or an ``ImageSource``.
        num_frames: number of pictures, at least 1. Give either this or ``fps``.
        fps: pictures per second of video, above 0.
        start_seconds: begin of the window in source time. None, or a time before the first
            picture, is the time of that.
        end_seconds: end of the window in source time, itself not in it, cut to the clip's; None is
            the clip's.

    Returns:
        (n,) int64, ascending, unique positions in ``index.pts``; at least one.

    Raises:
        InputError: an option is missing, out of range or outside the clip.

    Cost: O(pictures + samples * log(pictures)).
    """
    timeline = _Timeline(index)
    start, end = _window(timeline, start_seconds, end_seconds)
    if num_frames is not None and fps is None:
        return _spread(timeline, num_frames, start, end)
    if fps is not None and num_frames is None:
        return _at_rate(timeline, fps, start, end)
    raise InputError("give one of --num-frames and --fps, not both and not neither")


def at_keyframes(index: VideoIndex, frame_indices: Int64Array) -> Int64Array:
    """Return for each sampled frame the nearest keyframe at or before it, each once.

    So a long clip is read at the cost of one picture or two a frame. Samples on one keyframe become
    one frame. A clip that has to be read from its beginning keeps its frames, as every picture of
    it is decoded anyway; so does a frame before the first keyframe.

    Args:
        index: of the clip.
        frame_indices: (n,) int64, ascending, positions in ``index.pts``.

    Returns:
        (m,) int64, ascending, unique, m at most n.

    Cost: O(n * log(pictures)).
    """
    if not index.seekable or not len(index.keyframe_pts):
        return frame_indices
    place = np.searchsorted(index.keyframe_pts, index.pts[frame_indices], "right") - 1
    keyframes = np.searchsorted(index.pts, index.keyframe_pts[place])
    return np.unique(np.where(place < 0, frame_indices, keyframes))


def thin_frames(frame_indices: Int64Array, max_frames: int) -> Int64Array:
    """Keep at most ``max_frames`` of the sampled frames, evenly spread over their order.

    Args:
        frame_indices: (n,) int64, ascending.
        max_frames: at least 1.

    Returns:
        (min(n, max_frames),) int64, ascending: the input itself where it is short enough.

    Raises:
        InputError: ``max_frames`` below 1.

    Cost: O(max_frames).
    """
    if max_frames < 1:
        raise InputError(f"at least one frame is kept: {max_frames = }")
    if len(frame_indices) <= max_frames:
        return frame_indices
    centres = (2 * np.arange(max_frames, dtype=np.int64) + 1) * len(frame_indices)
    return frame_indices[centres // (2 * max_frames)]


class _Timeline:
    """The starts of all pictures in seconds from the first one on, with jumps closed up."""

    def __init__(self, index: Timed) -> None:
        steps = np.diff(index.pts)
        typical = int(np.median(steps)) if len(steps) else 0
        # One picture alone has no typical duration; a second does for its window.
        picture_seconds = typical * index.time_base_seconds if len(steps) else 1.0
        self.first = float(index.pts[0]) * index.time_base_seconds
        self.source_starts: Float64Array = (index.pts - index.pts[0]) * index.time_base_seconds
        self.source_end = float(self.source_starts[-1]) + picture_seconds
        if not index.seekable:
            jump = jump_ticks(steps, index.time_base_seconds)
            steps = np.where(steps > jump, typical, steps)
        ticks = np.concatenate([[0], np.cumsum(steps)])
        self.starts: Float64Array = ticks * index.time_base_seconds
        self.end = float(self.starts[-1]) + picture_seconds
        self.tolerance = index.time_base_seconds / 1000

    def shown_at(self, seconds: Float64Array) -> Int64Array:
        """Return the last picture that starts at or before each time."""
        found = np.searchsorted(self.starts, seconds + self.tolerance, "right") - 1
        return found.astype(np.int64)

    def closed_up(self, seconds: float) -> float:
        """Return a time since the first picture as it is after jumps have been closed up."""
        starts = self.source_starts
        shown = int(np.searchsorted(starts, seconds + self.tolerance, "right")) - 1
        next_start = self.starts[shown + 1] if shown + 1 < len(starts) else self.end
        return float(min(self.starts[shown] + seconds - starts[shown], next_start))


def _window(
    timeline: _Timeline, start_seconds: float | None, end_seconds: float | None
) -> tuple[float, float]:
    """Return the window on closed-up time since the first picture."""
    first, length = timeline.first, timeline.source_end
    start = 0.0 if start_seconds is None else start_seconds - first
    end = length if end_seconds is None else min(end_seconds - first, length)
    shown = f"the clip, which is shown from {first:.3f} to {first + length:.3f} s"
    if math.isnan(start) or start >= length:
        raise InputError(f"--start {start_seconds:g} s is outside {shown}")
    start = max(start, 0.0)
    if math.isnan(end) or end <= 0:
        raise InputError(f"--end {end_seconds:g} s is outside {shown}")
    if end <= start:
        raise InputError(f"--end {end_seconds:g} s is not after --start {start_seconds:g} s")
    return timeline.closed_up(start), timeline.closed_up(end)


def _spread(timeline: _Timeline, num_frames: int, start: float, end: float) -> Int64Array:
    if num_frames < 1:
        raise InputError(f"--num-frames is at least 1, not {num_frames}")
    first = int(timeline.shown_at(np.array([start]))[0])
    last = int(np.searchsorted(timeline.starts, end - timeline.tolerance, "left")) - 1
    last = max(first, last)
    if num_frames > last - first:
        return np.arange(first, last + 1)
    numbers = np.arange(num_frames)
    centres = start + (numbers.astype(np.float64) + 0.5) * ((end - start) / num_frames)
    shown = timeline.shown_at(centres)
    # Push repeated pictures up to the next free one, then what ran over the end back down.
    distinct = np.maximum.accumulate(shown - numbers) + numbers
    return np.minimum(distinct, last - num_frames + 1 + numbers)


def _at_rate(timeline: _Timeline, fps: float, start: float, end: float) -> Int64Array:
    if not 0 < fps < math.inf:
        raise InputError(f"--fps is a number above 0, not {fps:g}")
    # Number of the first sample at or after the start of each picture; a picture whose successor
    # has a higher one is shown at a sample. This way a huge rate costs nothing.
    since_start = np.append(timeline.starts, end) - start - timeline.tolerance
    next_sample = np.clip(np.ceil(since_start * fps), 0, max(1.0, math.ceil(since_start[-1] * fps)))
    return np.flatnonzero(np.diff(next_sample) > 0)
