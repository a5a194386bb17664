"""Which pictures of a clip to look at: evenly spread over its time, by number or by rate."""

import math

import numpy as np

from workers.errors import InputError
from workers.messages import Float64Array, Int64Array, VideoIndex

JUMP_SECONDS = 10.0
"""A longer hole is a jump of the clock, in a clip whose clock may jump."""


def sample_frames(
    index: VideoIndex,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> Int64Array:
    """Choose pictures of a clip, evenly over a window of its time.

    The picture shown at a time is the last one that starts at or before it; the last picture of a
    clip stays for one typical (median) duration. With ``num_frames`` the window is cut into that
    many equal bins and each gives the picture shown at its centre; where several centres fall on
    one picture its neighbours take their place, so that exactly ``num_frames`` distinct ones come
    out, or all when the window shows fewer. With ``fps`` the pictures shown at ``start + k / fps``
    are chosen, each once.

    In a clip that is not ``seekable`` a hole of more than ten seconds counts as one typical
    duration, so that a jump of the clock does not swallow the sampling; the window is measured on
    that closed-up time.

    Args:
        index: the clip.
        num_frames: number of pictures, at least 1. Give either this or ``fps``.
        fps: pictures per second of video, above 0.
        start_seconds: begin of the window, from the clip's first picture on; None is 0.
        end_seconds: end of the window, itself not in it, cut to the clip's; None is the clip's.

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

    def __init__(self, index: VideoIndex) -> None:
        steps = np.diff(index.pts)
        typical = int(np.median(steps)) if len(steps) else 0
        if not index.seekable:
            jump = max(round(JUMP_SECONDS / index.time_base_seconds), typical)
            steps = np.where(steps > jump, typical, steps)
        ticks = np.concatenate([[0], np.cumsum(steps)])
        self.starts: Float64Array = ticks * index.time_base_seconds
        # One picture alone has no typical duration; a second does for its window.
        picture_seconds = typical * index.time_base_seconds if len(steps) else 1.0
        self.end = float(self.starts[-1]) + picture_seconds
        self.tolerance = index.time_base_seconds / 1000

    def shown_at(self, seconds: Float64Array) -> Int64Array:
        """Return the last picture that starts at or before each time."""
        found = np.searchsorted(self.starts, seconds + self.tolerance, "right") - 1
        return found.astype(np.int64)


def _window(
    timeline: _Timeline, start_seconds: float | None, end_seconds: float | None
) -> tuple[float, float]:
    start = 0.0 if start_seconds is None else start_seconds
    end = timeline.end if end_seconds is None else end_seconds
    if not 0 <= start < timeline.end:
        raise InputError(f"--start {start:g} s is outside the clip of {timeline.end:.3f} s")
    if not start < end:
        raise InputError(
            f"--end {end:g} s is not after --start {start:g} s in the clip of {timeline.end:.3f} s"
        )
    return start, min(end, timeline.end)


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
