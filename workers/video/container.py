"""Opening and reading one local video file with PyAV, within limits and with typed errors."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import av
import av.container
from av.error import ExitError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.errors import NoVideoStreamError, VideoDecodeError, VideoOpenError, display_name
from workers.process import is_short_of_memory
from workers.video import limits
from workers.video.fetch import local_path
from workers.video.limits import Deadline, check_file, check_size

MPEG_CONTAINERS = frozenset({"mpeg", "mpegts", "mpegvideo"})
"""FFmpeg's names of the containers whose clock may jump and whose index has to be found out."""

DEMUXERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,"
    "3gp,mxf,dv,nut,gif,apng,rm,wtv,mjpeg,yuv4mpegpipe"
)
"""Every container that is one plain file; playlists and scripts (hls, dash, concat) are not."""

_NO_CODEC = "-"
_MAX_DEMUX_ERRORS = 8
_LEAST_ROOM_BYTES = 32 * 2**20
_BYTES_PER_PIXEL = 8
"""Of the largest formats: four planes of sixteen bits."""

# A tile of a larger picture, as phones store them, is none by itself.
_NO_CLIP = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent


@contextmanager
def open_video(
    path: str, deadline: Deadline
) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open the best video stream of a file for single-threaded decoding, and close it afterwards.

    Raises:
        VideoOpenError: not a readable local video file, or a playlist.
        NoVideoStreamError: no moving pictures in it (cover art does not count).
        VideoDecodeError: its codec is unknown.
        VideoLimitError: its pictures are larger than ``limits.MAX_PIXELS``.
        VideoTimeoutError: opening alone used up the time.
    """
    check_file(path)
    with _open_container(path, deadline, {"max_pixels": str(limits.MAX_PIXELS)}) as container:
        stream = prepare_stream(container, path)
        if stream.codec_context.width == 0:
            _check_declared_size(path, deadline)
        yield container, stream


def prepare_stream(container: av.container.InputContainer, name: str) -> VideoStream:
    """Return the best video stream, for decoding on one thread; the others are not read.

    Raises:
        NoVideoStreamError: no moving pictures in it (cover art does not count).
        VideoDecodeError: its codec is unknown.
        VideoLimitError: its pictures are larger than ``limits.MAX_PIXELS``.
    """
    stream = _best_stream(container, name)
    context: VideoCodecContext | None = stream.codec_context
    if context is None:
        raise VideoDecodeError(f"{display_name(name)}: its codec is unknown to this FFmpeg build")
    check_size(display_name(name), context.width, context.height)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    context.thread_type = "NONE"
    context.thread_count = 1
    context.options = {"max_pixels": str(limits.MAX_PIXELS)}
    return stream


def _open_container(
    path: str, deadline: Deadline, options: dict[str, str]
) -> av.container.InputContainer:
    options = options | {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
    limit = deadline.timeout_seconds
    try:
        # The prefix keeps a name such as "12:30.mp4" from being taken for a protocol.
        return av.open(
            f"file:{local_path(path)}",
            options=options,
            metadata_errors="replace",
            timeout=(limit, limit),
        )
    except ExitError:
        raise deadline.error() from None
    except (FFmpegError, UnicodeError) as error:
        _check_memory()
        raise VideoOpenError(_why_not_opened(path, error)) from None


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
    moving = [each for each in container.streams.video if not each.disposition & _NO_CLIP]
    best = container.streams.best("video")
    stream = next((each for each in moving if each is best), moving[0] if moving else None)
    if stream is None:
        held = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise NoVideoStreamError(f"{display_name(path)}: holds no video stream (it holds: {held})")
    return stream


def _check_declared_size(path: str, deadline: Deadline) -> None:
    """Refuse pictures too large for the decoders, whose refusal hides what the header says."""
    with _open_container(path, deadline, {"codec_whitelist": _NO_CODEC}) as container:
        context: VideoCodecContext | None = _best_stream(container, path).codec_context
        if context is not None:
            check_size(display_name(path), context.width, context.height)


def read_packets(
    container: av.container.InputContainer, stream: VideoStream, deadline: Deadline
) -> "Iterator[Packet[VideoStream]]":
    """Yield the stream's packets from where the container stands, the empty flushing one included.

    Data the demuxer cannot make sense of is skipped; after a few such failures in a row the file
    counts as ended there. Each packet is progress.
    """
    failures = 0
    while failures < _MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(stream):
                deadline.progress()
                failures = 0
                yield packet
            return
        except ExitError:
            raise deadline.error() from None
        except FFmpegError:
            _check_memory()
            deadline.progress()
            failures += 1


def flushing_packet(stream: VideoStream) -> "Packet[VideoStream]":
    """Return an empty packet, at which a decoder hands out what it still holds."""
    packet = cast("Packet[VideoStream]", Packet())
    packet.stream = stream
    return packet


def _check_memory(num_pixels: int = 0) -> None:
    """Raise MemoryError where a limit on this process may be why a picture could not be read.

    FFmpeg reports most of its failed allocations as invalid data (measured with H.264). Without a
    limit they are what damaged data brings about that asks for more than there can be.
    """
    if is_short_of_memory(max(_LEAST_ROOM_BYTES, num_pixels * _BYTES_PER_PIXEL)):
        raise MemoryError("no room for another picture")


def _num_pixels(packet: "Packet[VideoStream]") -> int:
    context = packet.stream.codec_context
    return context.width * context.height


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
                _check_memory(_num_pixels(packet))
                self.num_broken_packets += 1
                continue
            for frame in frames:
                self.deadline.progress()
                if frame.is_corrupt:
                    _check_memory(_num_pixels(packet))
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
