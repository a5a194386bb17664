"""Opening and reading one local video file with PyAV, within limits and with typed errors."""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import av
import av.container
from av.error import ExitError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.errors import (
    NoVideoStreamError,
    VideoDecodeError,
    VideoLimitError,
    VideoOpenError,
    VideoTimeoutError,
)

MAX_PIXELS = 64_000_000
"""Largest picture (width x height) that is ever decoded; 8K UHD has 33 million pixels."""

_DEMUXERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,"
    "3gp,mxf,dv,nut,gif,rm,wtv,mjpeg,yuv4mpegpipe"
)
"""Every container that is one plain file; playlists and scripts (hls, dash, concat) are not."""

_MAX_DEMUX_ERRORS = 8

_COVER_ART = Disposition.attached_pic | Disposition.timed_thumbnails


def display_name(path: str) -> str:
    """Return ``path`` fit for a one-line message."""
    return path if path.isprintable() else repr(path)


class Deadline:
    """A limit on wall time that loops ask now and then."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        self.path = path
        self.timeout_seconds = timeout_seconds
        self.restart()

    def restart(self) -> None:
        """Grant the full time again, from now."""
        self._end = time.monotonic() + self.timeout_seconds

    def check(self) -> None:
        """Raise VideoTimeoutError once the time is over."""
        if time.monotonic() > self._end:
            raise self.error()

    def error(self) -> VideoTimeoutError:
        """Build the error that names the file and the limit."""
        return VideoTimeoutError(
            f"{display_name(self.path)}: reading took longer than {self.timeout_seconds:g} s; "
            "allow more time, or copy the clip to a fast local disk"
        )


def check_file(path: str) -> None:
    """Raise VideoOpenError unless ``path`` is a regular, non-empty local file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VideoOpenError(
            f"{display_name(path)}: {reason}; give the path of a local video file"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoOpenError(f"{display_name(path)}: is a directory; give a video file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoOpenError(
            f"{display_name(path)}: is not a regular file (pipe, socket or device)"
        )
    if status.st_size == 0:
        raise VideoOpenError(f"{display_name(path)}: the file is empty (0 bytes)")


@contextmanager
def open_video(
    path: str, deadline: Deadline
) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open the best video stream of a file for single-threaded decoding, and close it afterwards.

    Raises:
        VideoOpenError: not a readable local video file, or a playlist.
        NoVideoStreamError: no moving pictures in it (cover art does not count).
        VideoDecodeError: its codec is unknown.
        VideoLimitError: its pictures are larger than ``MAX_PIXELS``.
        VideoTimeoutError: opening alone used up the time.
    """
    check_file(path)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": _DEMUXERS,
        "max_pixels": str(MAX_PIXELS),
    }
    limit = deadline.timeout_seconds
    try:
        # The prefix keeps a name such as "12:30.mp4" from being taken for a protocol.
        container = av.open(
            f"file:{path}", options=options, metadata_errors="replace", timeout=(limit, limit)
        )
    except ExitError:
        raise deadline.error() from None
    except (FFmpegError, UnicodeError) as error:
        raise VideoOpenError(_why_not_opened(path, error)) from None
    with container:
        yield container, _best_stream(container, path)


def _why_not_opened(path: str, error: FFmpegError | UnicodeError) -> str:
    if isinstance(error, av.error.ArgumentError):
        reason = "is a playlist or of an unsupported container; give the video file itself"
    elif isinstance(error, InvalidDataError):
        reason = "is not a video, or its header is damaged or cut off; try to get the file again"
    elif isinstance(error, FFmpegError):
        reason = f"cannot be opened: {error.strerror}"
    else:
        reason = "cannot be opened: its name is not valid text; rename it"
    return f"{display_name(path)}: {reason}"


def _best_stream(container: av.container.InputContainer, path: str) -> VideoStream:
    moving = [each for each in container.streams.video if not each.disposition & _COVER_ART]
    best = container.streams.best("video")
    stream = next((each for each in moving if each is best), moving[0] if moving else None)
    if stream is None:
        held = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise NoVideoStreamError(f"{display_name(path)}: holds no video stream (it holds: {held})")
    context: VideoCodecContext | None = stream.codec_context
    if context is None:
        raise VideoDecodeError(f"{display_name(path)}: its codec is unknown to this FFmpeg build")
    if context.width * context.height > MAX_PIXELS:
        raise VideoLimitError(
            f"{display_name(path)}: pictures of {context.width}x{context.height} exceed the limit "
            f"of {MAX_PIXELS // 1_000_000} million pixels; scale the clip down first"
        )
    context.thread_type = "NONE"
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def read_packets(
    container: av.container.InputContainer, stream: VideoStream, deadline: Deadline
) -> "Iterator[Packet[VideoStream]]":
    """Yield the stream's packets from where the container stands, the empty flushing one included.

    Data the demuxer cannot make sense of is skipped; after a few such failures in a row the file
    counts as ended there.
    """
    failures = 0
    while failures < _MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(stream):
                deadline.check()
                failures = 0
                yield packet
            return
        except ExitError:
            raise deadline.error() from None
        except FFmpegError:
            deadline.check()
            failures += 1


class PictureReader:
    """Decodes packet by packet, skipping what is broken and counting it."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.num_broken_packets = 0
        self.num_corrupt_pictures = 0

    def pictures(self, packets: "Iterable[Packet[VideoStream]]") -> Iterator[VideoFrame]:
        """Yield every sound picture that the packets decode to, in the order of display."""
        for packet in packets:
            try:
                frames = packet.decode()
            except FFmpegError:
                self.num_broken_packets += 1
                continue
            for frame in frames:
                self.deadline.check()
                if frame.is_corrupt:
                    self.num_corrupt_pictures += 1
                else:
                    yield frame

    def troubles(self) -> str:
        """Say what was skipped so far: the likely reason for a missing picture."""
        if self.num_broken_packets == self.num_corrupt_pictures == 0:
            return "their data, or what it refers to, is missing"
        return (
            f"{self.num_broken_packets} broken packets and "
            f"{self.num_corrupt_pictures} corrupt pictures so far"
        )
