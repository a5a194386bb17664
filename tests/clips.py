"""Small clips drawn at test time: each picture carries its own number as black and white blocks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from workers.arrays import UInt8Array

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
    matrix: Sequence[int] | None = None,
    lay_down: Callable[[UInt8Array], UInt8Array] | None = None,
    pixel_shape: Fraction | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
    pix_fmt: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    unit: Fraction | None = None,
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
        matrix: another display matrix as (a, b, c, d), and how a picture is laid down to be set
            upright by it.
        pixel_shape: width of a stored pixel through its height.
        width, height, pix_fmt: of the picture as shown.
        times_ms: presentation time of each picture in milliseconds, or in ``unit`` of a second if
            that is given; 25 pictures a second if None.
        first_number: painted into the first picture.
    """
    unit = unit or (Fraction(1, FRAME_RATE) if times_ms is None else Fraction(1, 1000))
    times = range(num_frames) if times_ms is None else times_ms
    lay_down = lay_down or (lambda picture: np.rot90(picture, k=-rotation_degrees // 90))
    stored_height, stored_width = lay_down(paint_frame(0, width=width, height=height)).shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE, options=dict(options))
        stream.width, stream.height = stored_width, stored_height
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = unit
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if rotation_degrees:
            stream.set_display_rotation(rotation_degrees)
        if matrix is not None:
            a, b, c, d = (each << 16 for each in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number, time in enumerate(times):
            picture = paint_frame(first_number + number, width=width, height=height)
            stored = np.ascontiguousarray(lay_down(picture))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts, frame.time_base = time, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_raw(path: Path, *, num_frames: int) -> Path:
    """Write an uncompressed YUV4MPEG2 clip of numbered pictures."""
    pictures = [
        av.VideoFrame.from_ndarray(paint_frame(number), format="rgb24").reformat(format="yuv420p")
        for number in range(num_frames)
    ]
    content = b"".join(b"FRAME\n" + picture.to_ndarray().tobytes() for picture in pictures)
    path.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FRAME_RATE}:1 Ip A1:1\n".encode() + content)
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


def copy_trimmed(source: Path, target: Path, *, start: Fraction) -> Path:
    """Copy an MP4 without decoding, to be shown from ``start`` seconds on by an edit list."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.size:
                packet.pts -= int(start / stream.time_base)
                packet.dts -= int(start / stream.time_base)
                packet.stream = copy
                writer.mux(packet)
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


def decode_sequentially(
    path: Path, *, stored_size: tuple[int, int] | None = None
) -> list[tuple[int | None, UInt8Array]]:
    """Decode a whole clip the plain way: time and upright picture of every sound frame.

    ``stored_size`` (width, height) are square pixels to scale to before turning.
    """
    width, height = stored_size or (None, None)
    bicubic = av.video.reformatter.Interpolation.BICUBIC if stored_size else None
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
                (
                    frame.pts,
                    np.rot90(
                        frame.to_ndarray(
                            format="rgb24", width=width, height=height, interpolation=bicubic
                        ),
                        frame.rotation // 90,
                    ),
                )
                for frame in frames
                if not frame.is_corrupt
            ]
    return shown
