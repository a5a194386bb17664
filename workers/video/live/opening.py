"""Opening what is watched with PyAV, whatever it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.container
from av.error import FFmpegError
from av.video.stream import VideoStream

from workers.errors import VideoOpenError
from workers.video.container import open_video, prepare_stream
from workers.video.limits import Deadline
from workers.video.live.address import Address

_NO_LIMIT_SECONDS = 1e9
"""FFmpeg's own limits are not trusted: whoever waits for pictures ends the process."""

Opened = tuple[av.container.InputContainer, VideoStream]


@contextmanager
def open_live(address: Address, pipe: int) -> Iterator[Opened]:
    """Open a source for decoding on one thread, and close it afterwards.

    Opening and reading may take for ever.

    Args:
        address: of the source.
        pipe: file descriptor of one that is a pipe.

    Raises:
        VideoError: it cannot be opened now, or holds nothing that can be decoded.
    """
    if address.kind == "file":
        with open_video(address.url, no_deadline(address)) as opened:
            yield opened
        return
    url = f"pipe:{pipe}" if address.kind == "pipe" else address.url
    try:
        container = av.open(url, options=address.av_options, metadata_errors="replace")
    except FFmpegError as error:
        raise VideoOpenError(f"{address.name}: cannot be opened: {error.strerror}") from None
    with container:
        yield container, prepare_stream(container, address.name)


def no_deadline(address: Address) -> Deadline:
    """Return a deadline that never comes."""
    return Deadline(address.url, _NO_LIMIT_SECONDS)
