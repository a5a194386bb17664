"""Reading a clip: ``index_video``, then ``cut_segments``, then ``decode_segment`` for each."""

from collections.abc import Callable, Iterator

from workers.errors import InputError
from workers.messages import FrameChunk, Segment
from workers.video.index import index_video
from workers.video.segments import cut_segments
from workers.video.with_decord import decode_with_decord
from workers.video.with_pyav import decode_with_pyav

__all__ = ["DECODERS", "cut_segments", "decode_segment", "index_video"]

DECODERS: dict[str, Callable[[Segment, float], Iterator[FrameChunk]]] = {
    "pyav": decode_with_pyav,
    "decord": decode_with_decord,
}
"""Back ends by name. PyAV reads everything; decord fewer containers and codecs, on request only."""


def decode_segment(segment: Segment, *, timeout_seconds: float = 300.0) -> Iterator[FrameChunk]:
    """Yield one ``FrameChunk`` after another, in order, at most one held in memory.

    Pictures are RGB uint8 at the clip's displayed size, rotated upright; each is bit for bit what
    a sequential decode shows at that time, however the clip was cut into segments. A picture that
    cannot be decoded is absent and named in the chunk's warnings, never replaced by another.

    Args:
        segment: what to read, from ``cut_segments``.
        timeout_seconds: limit on wall time for each chunk.

    Raises:
        InputError: unknown decoder, or the chosen one is not installed.
        VideoOpenError, NoVideoStreamError: the file has changed since it was indexed.
        VideoDecodeError: the chosen decoder cannot read this clip correctly.
        VideoTimeoutError: one chunk took longer than ``timeout_seconds``.

    Cost: decoding from the last keyframe before each frame, once for frames that share one.
    """
    if segment.decoder not in DECODERS:
        names = ", ".join(DECODERS)
        raise InputError(f"unknown decoder {segment.decoder!r}; --decoder takes one of: {names}")
    return DECODERS[segment.decoder](segment, timeout_seconds)
