"""What reading sampled frames costs beside a plain PyAV loop: CPU and wall time a frame.

The plain loop opens a clip, decodes every picture up to the last wanted and converts the wanted to
RGB. Ours reads the same pictures of a clip that has been indexed (which is timed apart): with one
decoder, with two in threads, and with two in processes that are warm. All take turns in one run,
and must give the same pixels. Clips are drawn, or those of a folder.

Run: python -m benchmarks.decoding [--clips FOLDER] [--repeats 7] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from streaming.bench.hardware import describe_hardware
from streaming.plan import CHUNKS_PER_SEGMENT, FRAMES_PER_CHUNK, MIN_CHUNKS_PER_SEGMENT
from workers.arrays import Int64Array, UInt8Array
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.sampling import sample_frames
from workers.video.segments import Segment, cut_segments
from workers.video.video_index import VideoIndex

_WIDTH, _HEIGHT, _RATE = 1280, 720, 30
_CLIPS = {
    "h264_gop250.mp4": ("libx264", {"preset": "veryfast", "x264-params": "keyint=250"}),
    "h264_gop48.mp4": ("libx264", {"preset": "veryfast", "x264-params": "keyint=48"}),
    "hevc.mp4": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=250"}),
}
_SAMPLINGS: Mapping[str, Mapping[str, float]] = {
    "32 frames": {"num_frames": 32},
    "1 fps": {"fps": 1.0},
    "8 fps": {"fps": 8.0},
}

Read = Callable[[], list[int]]
"""Reads all frames of a sampling and returns a checksum of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way of reading cost; ratios are to the plain loop of the same turn."""

    clip: str
    sampling: str
    num_frames: int
    way: str
    cpu_milliseconds: float
    wall_milliseconds: float
    cpu_ratio: tuple[float, float, float]
    wall_ratio: tuple[float, float, float]


def draw_frames(num_frames: int) -> Iterator[UInt8Array]:
    """Draw pictures that pan over waves and edges, with a block of noise crossing them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: _HEIGHT + 64, : 2 * _WIDTH] / _HEIGHT
    waves = np.sin(y[..., None] * [9, 31, 67] + x[..., None] * [71, 23, 41])
    cells = rng.integers(0, 2, (30, 90, 3)) * 2 - 1
    levels = (waves + cells[(y * 25).astype(int), (x * 25).astype(int)] + 2) * 63.75
    scene: UInt8Array = levels.clip(0, 255).astype(np.uint8)
    for number in range(num_frames):
        left, top = 3 * number % _WIDTH, number % 64
        picture = scene[top : top + _HEIGHT, left : left + _WIDTH].copy()
        start = 5 * number % (_WIDTH - 160)
        picture[200:360, start : start + 160] = rng.integers(0, 256, (160, 160, 3), np.uint8)
        yield picture


def draw_clip(path: Path, codec: str, options: Mapping[str, str], seconds: int) -> Path:
    """Write a clip of 1280 x 720 at 30 frames a second."""
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=_RATE, options=dict(options)))
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for picture in draw_frames(seconds * _RATE):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_plainly(path: Path, wanted: Sequence[int]) -> list[int]:
    """Return a checksum of the picture at each presentation time, ascending."""
    found: list[int] = []
    places = set(wanted)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            if frame.pts in places:
                picture: UInt8Array = frame.to_ndarray(format="rgb24")  # type: ignore[assignment]
                found.append(_checksum(picture))
            if frame.pts == wanted[-1]:
                break
    return found


def read_segment(segment: Segment) -> tuple[list[int], float]:
    """Return a checksum of each picture, and the CPU seconds that reading it took this process."""
    start = time.process_time()
    found = [_checksum(p) for chunk in read_pictures(segment) for p in chunk.pictures]
    return found, time.process_time() - start


def _checksum(picture: UInt8Array) -> int:
    return zlib.adler32(picture[::16].tobytes())


class Timer:
    """CPU and wall seconds of reading, CPU of other processes included."""

    def __init__(self) -> None:
        self.elsewhere = 0.0

    def measure(self, read: Read) -> tuple[list[int], float, float]:
        """Return what was read, CPU seconds and wall seconds."""
        self.elsewhere = 0.0
        start, cpu_start = time.perf_counter(), time.process_time()
        found = read()
        cpu = time.process_time() - cpu_start + self.elsewhere
        return found, cpu, time.perf_counter() - start

    def read_with(self, pool: Executor, segments: Sequence[Segment]) -> list[int]:
        """Read segments with the workers of a pool."""
        parts = list(pool.map(read_segment, segments))
        if isinstance(pool, ProcessPoolExecutor):
            self.elsewhere = sum(seconds for _, seconds in parts)
        return [each for found, _ in parts for each in found]


def measure_sampling(
    path: Path, index: VideoIndex, sampling: str, repeats: int, pools: Mapping[str, Executor]
) -> list[Row]:
    """Measure every way of reading one sampling of one clip in turns."""
    wanted = sample_frames(index, **_SAMPLINGS[sampling])  # type: ignore[arg-type]
    segments = _segments(index, wanted)
    timer = Timer()
    ways: dict[str, Read] = {
        "plain": lambda: read_plainly(path, index.pts[wanted].tolist()),
        "one": lambda: [each for part in segments for each in read_segment(part)[0]],
    }
    for name, pool in pools.items():
        ways[name] = lambda pool=pool: timer.read_with(pool, segments)  # type: ignore[misc]
    expected = read_plainly(path, index.pts[wanted].tolist())
    runs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(repeats + 1):
        for way, read in ways.items():
            found, cpu, wall = timer.measure(read)
            if found != expected:
                raise RuntimeError(f"{path.name}, {sampling}: other pixels with {way}")
            runs[way].append((cpu, wall))
    return [_row(path.name, sampling, len(wanted), way, runs) for way in ways]


def _segments(index: VideoIndex, wanted: Int64Array) -> list[Segment]:
    """Cut as a run does."""
    return cut_segments(
        "clip", index, wanted, decoder="pyav", frames_per_chunk=FRAMES_PER_CHUNK,
        max_chunks=CHUNKS_PER_SEGMENT, min_chunks=MIN_CHUNKS_PER_SEGMENT,
    )  # fmt: skip


def _row(
    clip: str,
    sampling: str,
    num_frames: int,
    way: str,
    runs: Mapping[str, list[tuple[float, float]]],
) -> Row:
    own, plain = np.array(runs[way][1:]), np.array(runs["plain"][1:])  # the first warms up
    cpu, wall = (_quartiles(column) for column in (own / plain).T)
    cpu_seconds, wall_seconds = np.median(own, axis=0).tolist()
    return Row(
        clip=clip,
        sampling=sampling,
        num_frames=num_frames,
        way=way,
        cpu_milliseconds=1000 * cpu_seconds / num_frames,
        wall_milliseconds=1000 * wall_seconds / num_frames,
        cpu_ratio=cpu,
        wall_ratio=wall,
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of the rows."""
    lines = [
        "| clip | sampling | frames | way | CPU, ms a frame | to plain (quartiles) "
        "| wall, ms a frame | to plain (quartiles) |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cpu, wall = (
            f"{middle:.2f} ({low:.2f}-{high:.2f})"
            for low, middle, high in (row.cpu_ratio, row.wall_ratio)
        )
        lines.append(
            f"| {row.clip} | {row.sampling} | {row.num_frames} | {row.way} "
            f"| {row.cpu_milliseconds:.1f} | {cpu} | {row.wall_milliseconds:.1f} | {wall} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, help="folder of clips; else some are drawn")
    parser.add_argument("--seconds", type=int, default=40, help="length of a drawn clip")
    parser.add_argument("--samplings", nargs="+", default=list(_SAMPLINGS), choices=_SAMPLINGS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [*sorted(options.clips.iterdir())] if options.clips else []
        for name, (codec, settings) in {} if paths else _CLIPS.items():
            paths.append(draw_clip(Path(folder) / name, codec, settings, options.seconds))
        pools = {
            "two threads": ThreadPoolExecutor(2),
            "two processes": ProcessPoolExecutor(2, get_context("spawn")),
        }
        for path in paths:
            start = time.process_time()
            index = index_video(str(path))
            print(f"{path.name}: indexed in {time.process_time() - start:.3f} s of CPU")
            for sampling in options.samplings:
                rows += measure_sampling(path, index, sampling, options.repeats, pools)
    print(f"\n{describe_hardware()}\n\n{table(rows)}")
    if options.json:
        found = {"hardware": describe_hardware(), "rows": [*map(asdict, rows)]}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
