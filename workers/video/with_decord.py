"""Reading chosen pictures with decord 0.6: on request only, and only where it is known to be right.

decord returns other pictures than asked for, without a word, in transport streams and open groups
of pictures, and cannot open some codecs. What it may get wrong is refused here; what remains is
compared with our own list of times before a picture is taken. It does not tell damaged pictures
from sound ones: for a clip that may be damaged PyAV is the only choice. An open reader grows by
hundreds of megabytes a second, so each chunk opens the file, takes its pictures and closes it.
"""

import importlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from workers.arrays import Int64Array
from workers.errors import InputError, VideoDecodeError
from workers.frames import PictureChunk
from workers.video.container import MPEG_CONTAINERS, open_video
from workers.video.fetch import local_path
from workers.video.limits import Deadline
from workers.video.segments import VideoSegment
from workers.video.video_index import VideoIndex
from workers.video.with_pyav import make_chunk

_REFUSED_CODECS = ("hevc", "av1")
_REWINDS = ("DECORD_REWIND_RETRY_MAX", "2")
_TIME_TOLERANCE_SECONDS = 5e-4


def decode_with_decord(segment: VideoSegment, timeout_seconds: float) -> Iterator[PictureChunk]:
    """Yield the segment's chunks; see ``workers.video.decode.read_pictures``.

    decord cannot be interrupted, so the time limit is looked at between its calls only.

    Raises:
        InputError: decord is not installed.
        VideoDecodeError: decord cannot be trusted with this clip, or fails on it.
    """
    decord = import_decord()
    deadline = Deadline(segment.index.path, timeout_seconds)
    _check_trusted(segment.index, deadline)
    for chunk in segment.chunks():
        deadline.restart()
        yield _read_chunk(decord, chunk, deadline)


def import_decord() -> ModuleType:
    """Return the library, which is an extra.

    Raises:
        InputError: it is not installed.
    """
    # Read once, when the library is loaded; by default a damaged place is tried for 12 seconds.
    os.environ.setdefault(*_REWINDS)
    try:
        return importlib.import_module("decord")
    except ImportError:
        raise InputError(
            "--decoder decord needs the package decord, for Linux on x86-64 only "
            "(pip install 'mr-stream[decord]'); use --decoder pyav"
        ) from None


def _refusal(index: VideoIndex, reason: str) -> VideoDecodeError:
    return VideoDecodeError(f"{index.name}: decord {reason}; use --decoder pyav")


def _check_trusted(index: VideoIndex, deadline: Deadline) -> None:
    if index.codec in _REFUSED_CODECS:
        raise _refusal(index, f"does not read {index.codec} reliably")
    if not index.seekable:
        raise _refusal(index, "needs a clip whose times are complete and without jumps")
    if index.open_gop:
        raise _refusal(index, "returns wrong pictures from open groups of pictures")
    if index.trimmed:
        raise _refusal(index, "returns wrong pictures where an edit list cuts some away")
    if index.mirrored:
        raise _refusal(index, "does not mirror pictures")
    with open_video(index.path, deadline) as (container, _):
        if container.format.name in MPEG_CONTAINERS:
            raise _refusal(index, "returns wrong pictures from MPEG streams")
        if container.duration is None:
            raise _refusal(index, "cannot read a clip without a duration")


def _read_chunk(decord: ModuleType, chunk: VideoSegment, deadline: Deadline) -> PictureChunk:
    index = chunk.index
    try:
        path = local_path(index.path)
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1, fault_tol=1)
        positions = _positions(reader, index, chunk.pts)
        pictures = reader.get_batch(positions.tolist()).asnumpy()
        del reader
    except (decord.DECORDError, RuntimeError):
        raise _refusal(index, "fails on it, perhaps because it is damaged") from None
    deadline.progress()
    if pictures.shape[1:] != (index.height, index.width, 3):
        height, width = pictures.shape[1:3]
        raise _refusal(index, f"shows {width}x{height} instead of {index.width}x{index.height}")
    return make_chunk(chunk, list(pictures), "")


def _positions(reader: Any, index: VideoIndex, wanted: Int64Array) -> Int64Array:
    """Return decord's numbers of the wanted pictures, found by its own times."""
    seconds = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
    expected = (wanted - index.pts[0]).astype(np.float64) * index.time_base_seconds
    # decord counts from the first picture and in float32.
    tolerance = _TIME_TOLERANCE_SECONDS + expected * float(np.finfo(np.float32).eps)
    positions: Int64Array = np.searchsorted(seconds, expected - tolerance)
    found = np.append(seconds, np.inf)[positions]
    if np.any(np.abs(found - expected) > tolerance) or np.any(np.diff(positions) < 1):
        raise _refusal(index, "lists other presentation times")
    return positions
