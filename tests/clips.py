"""Small clips drawn at test time: each picture carries its own number as black and white blocks."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from workers.messages import UInt8Array

COLUMNS, ROWS = 5, 2
FRAME_RATE = 25
WIDTH, HEIGHT = 160, 96

X264_B_FRAMES: Mapping[str, str] = {"bf": "3", "b_strategy": "0", "sc_threshold": "0"}
X265_OPEN_GOP: Mapping[str, str] = {
    "x265-params": "keyint=12:min-keyint=12:open-gop=1:scenecut=0:bframes=3:b-adapt=0:"
    "log-level=none"
}


def paint_frame(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> UInt8Array:
    """Draw (height, width, 3) blocks that spell ``number`` (0 to 1023) in binary."""
    bits = (number >> np.arange(COLUMNS * ROWS)) & 1
    blocks = np.where(bits, 255, 0).astype(np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return np.repeat(blocks[rows][:, columns, None], 3, axis=2)


def read_frame_number(frame: UInt8Array) -> int:
    """Read the number painted into a picture of any size, from the middle of each block."""
    height, width = frame.shape[:2]
    rows = (2 * np.arange(ROWS) + 1) * height // (2 * ROWS)
    columns = (2 * np.arange(COLUMNS) + 1) * width // (2 * COLUMNS)
    bits = frame[rows][:, columns].mean(axis=2).reshape(-1) > 127
    return int(bits @ (1 << np.arange(COLUMNS * ROWS)))


def draw_clip(
    path: Path,
    *,
    num_frames: int = 60,
    codec: str = "libx264",
    options: Mapping[str, str] = X264_B_FRAMES,
    gop: int = 12,
    rotation_degrees: int = 0,
    width: int = WIDTH,
    height: int = HEIGHT,
    pix_fmt: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    first_number: int = 0,
) -> Path:
    """Write a clip of numbered pictures; the container follows from the name's ending.

    Args:
        path: where to.
        num_frames: number of pictures.
        codec: FFmpeg's name of the encoder, ``options`` are its options.
        gop: pictures from one keyframe to the next.
        rotation_degrees: what the display matrix says, counter-clockwise; the stored pictures lie
            on their side, so that a reader that obeys it sees the numbers upright.
        width, height, pix_fmt: of the picture as shown.
        times_ms: presentation time of each picture in milliseconds; 25 pictures a second if None.
        first_number: painted into the first picture.
    """
    unit = Fraction(1, FRAME_RATE) if times_ms is None else Fraction(1, 1000)
    times = range(num_frames) if times_ms is None else times_ms
    turned = rotation_degrees % 180 == 90
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE, options=dict(options))
        stream.width, stream.height = (height, width) if turned else (width, height)
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = unit
        if rotation_degrees:
            stream.set_display_rotation(rotation_degrees)
        for number, time in enumerate(times):
            picture = paint_frame(first_number + number, width=width, height=height)
            stored = np.rot90(picture, k=-rotation_degrees // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
            frame.pts, frame.time_base = time, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_sound(path: Path) -> Path:
    """Write a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_file(source: Path, target: Path, *, keep_share: float) -> Path:
    """Copy the first part of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * keep_share)])
    return target


def destroy_bytes(source: Path, target: Path, *, start_share: float, end_share: float) -> Path:
    """Copy a file with a part of it overwritten by 0xFF."""
    content = bytearray(source.read_bytes())
    start, end = int(len(content) * start_share), int(len(content) * end_share)
    content[start:end] = b"\xff" * (end - start)
    target.write_bytes(content)
    return target


def join_files(sources: Sequence[Path], target: Path) -> Path:
    """Join transport streams end to end, as broken recorders and playlists do."""
    target.write_bytes(b"".join(source.read_bytes() for source in sources))
    return target


def hide_vp8_picture(source: Path, target: Path, *, number: int) -> Path:
    """Copy a VP8 clip with one picture marked as not shown, as alternate references are."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for position, packet in enumerate(reader.demux(video=0)):
            content = bytearray(bytes(packet))
            content[:1] = bytes([byte & ~(0x10 * (position == number)) for byte in content[:1]])
            copy = av.Packet(bytes(content))
            copy.stream, copy.pts, copy.dts = stream, packet.pts, packet.dts
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            writer.mux([copy] * (packet.size > 0))
    return target


def decode_sequentially(path: Path) -> list[tuple[int | None, UInt8Array]]:
    """Decode a whole clip the plain way: time and upright picture of every sound frame."""
    shown = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        # Slice threads hide damage in other ways than one thread does.
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            frames = []
            with suppress(av.error.FFmpegError):
                frames = packet.decode()
            shown += [
                (frame.pts, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                for frame in frames
                if not frame.is_corrupt
            ]
    return shown
