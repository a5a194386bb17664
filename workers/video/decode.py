"""Reading a clip: ``open_source``, then ``cut_segments``, then ``read_pictures`` for each."""

from collections.abc import Callable, Iterator

from workers.errors import InputError
from workers.frames import PictureChunk
from workers.video.images import ImageSegment, read_images
from workers.video.segments import Segment, VideoSegment
from workers.video.with_decord import decode_with_decord
from workers.video.with_pyav import decode_with_pyav

DECODERS: dict[str, Callable[[VideoSegment, float], Iterator[PictureChunk]]] = {
    "pyav": decode_with_pyav,
    "decord": decode_with_decord,
}
"""Back ends by name. PyAV reads everything; decord fewer containers and codecs, on request only."""


def read_pictures(segment: Segment, *, timeout_seconds: float = 300.0) -> Iterator[PictureChunk]:
    """Yield one ``PictureChunk`` after another, in order, at most one held in memory.

    Pictures are (height, width, 3) RGB uint8 as displayed: upright, with square pixels. Each is bit
    for bit what a sequential decode shows at that time, however the clip was cut and sliced; only
    where pixels are not square its width is resampled (bicubic). A frame of a video that cannot be
    decoded is absent and named in the chunk's warnings, never replaced by another.

    Args:
        segment: what to read, from ``workers.video.segments.cut_segments`` or a slice of that.
        timeout_seconds: limit on wall time without progress.

    Raises:
        InputError: unknown decoder, or the chosen one is not installed.
        VideoOpenError, NoVideoStreamError: the file has changed since it was opened, or a still
            picture is damaged.
        VideoDecodeError: the chosen decoder cannot read this clip correctly.
        VideoTimeoutError: nothing came of reading for ``timeout_seconds``.

    Cost: decoding from the last keyframe before each frame, once for frames that share one.
    """
    if isinstance(segment, ImageSegment):
        return read_images(segment)
    if segment.decoder not in DECODERS:
        names = ", ".join(DECODERS)
        raise InputError(f"unknown decoder {segment.decoder!r}; --decoder takes one of: {names}")
    return DECODERS[segment.decoder](segment, timeout_seconds)
