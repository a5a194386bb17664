"""What a clip may be at most, whatever a request asks for; checked before any frame is read."""

import math

import numpy as np

from streaming.option_groups import FrameOptions
from streaming.serve.failures import RequestError
from streaming.serve.options import MediaOptions
from workers.video.images import ImageSource
from workers.video.source import Source


def check_clip(source: Source, frames: FrameOptions, limits: MediaOptions) -> None:
    """Refuse a clip that is too large or too long, and more frames of it than may be looked at.

    Raises:
        RequestError: names the limit.
    """
    height, width = max(_sizes(source), key=math.prod)
    if height * width > limits.max_pixels:
        raise _too_large(
            f"pictures of {width}x{height} exceed the {limits.max_pixels:,} pixels taken here"
        )
    first, last = source.pts_seconds(np.array([0, source.num_frames - 1])).tolist()
    if last - first > limits.max_seconds:
        raise _too_large(
            f"the clip has {last - first:.0f} s, and at most {limits.max_seconds:g} are taken here"
        )
    if _num_wanted(frames, first, last) > limits.max_frames:
        raise too_many_frames(limits.max_frames)


def too_many_frames(most: int) -> RequestError:
    """Return the refusal of a request for more frames than may be looked at."""
    reason = f"at most {most} frames are looked at here: lower num_frames or fps"
    return RequestError(422, "too_many_frames", reason)


def _too_large(reason: str) -> RequestError:
    return RequestError(422, "media_too_large", reason)


def _num_wanted(frames: FrameOptions, first: float, last: float) -> float:
    """Return how many frames are asked for, before a list of them is made."""
    if frames.fps is None:
        return frames.num_frames or 0
    begin = first if frames.start is None else max(first, frames.start)
    end = last if frames.end is None else min(last, frames.end)
    return (end - begin) * frames.fps


def _sizes(source: Source) -> list[tuple[int, int]]:
    """Return the displayed (height, width) of the pictures; in a video all are of one size."""
    number = source.num_frames if isinstance(source, ImageSource) else 1
    return [source.size_of(place) for place in range(number)]
