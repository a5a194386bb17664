"""How far ``--resize fast`` is from ``--resize exact``: time, pixels, kept tokens and answers.

Frames are those of the clips in a folder where one has the size asked for, else drawn. Both ways
take turns in one run; each has ``--threads`` cores, exact only ever one, as a decoder has. Kept
tokens are those of MR-Pruner at 10 %, answers those to questions about drawn clips.

Run: python -m benchmarks.resize [--clips FOLDER] [--device cpu] [--threads 1] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.resize_answers import Cut, compare_answers
from pruner.mr_pruner import mr_pruner
from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint
from workers.arrays import UInt8Array
from workers.checkpoint import locate
from workers.vision.encoder import VisionEncoder
from workers.vision.geometry import DEFAULT_PINPOINTS, TileGeometry
from workers.vision.resize import cut_pictures_on
from workers.vision.tiles import cut_pictures

SIZES = ("640x360", "1280x720", "1920x1080", "3840x2160")
KEEP_RATIO = 0.1
LLAVA = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was found at one size; distances are in levels of 255, over the pictures' pixels.

    Times are wall ones a frame.
    """

    size: str
    source: str
    exact_milliseconds: float
    fast_milliseconds: float
    ratio: float
    ratio_quartiles: tuple[float, float]
    cpu_ratio: float
    cpu_ratio_quartiles: tuple[float, float]
    max_distance: float
    mean_distance: float
    over_one: float
    over_two: float
    kept_embedded: float
    kept_random: float


def read_frames(folder: Path | None, width: int, height: int, count: int) -> list[UInt8Array]:
    """Return ``count`` frames spread over the first clip of this size; none if there is none."""
    import av

    for path in sorted(folder.iterdir()) if folder is not None else []:
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                if (stream.width, stream.height) != (width, height):
                    continue
                found = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        except (av.FFmpegError, IndexError, IsADirectoryError):
            continue
        return [found[place] for place in np.linspace(0, len(found) - 1, count).astype(int)]
    return []


def draw_frame(width: int, height: int, seed: int) -> UInt8Array:
    """Draw smooth waves under hard edges and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    rates, phases = rng.uniform(5, 90, (3, 2)), rng.uniform(0, 6, 3)
    waves = np.sin(y[..., None] * rates[:, 0] + x[..., None] * rates[:, 1] + phases)
    cells = rng.integers(0, 2, (41, 81, 3)) * 2 - 1
    edges = cells[(y * 40).astype(int), (x * 40).astype(int)]
    levels = (waves + edges + 2 + rng.normal(0, 0.05, (height, width, 3))) * 63.75
    picture: UInt8Array = levels.clip(0, 255).astype(np.uint8)
    return picture


def measure_time(
    exact: Cut, fast: Cut, frames: Sequence[UInt8Array], repeats: int, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (repeats, 2) wall and CPU seconds a frame of both, in turn, one warm-up first."""

    def seconds(cut: Cut) -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), time.process_time()
        cut(frames, LLAVA)
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        return wall / len(frames), cpu / len(frames)

    seconds(exact), seconds(fast)
    pairs = np.array([(seconds(exact), seconds(fast)) for _ in range(repeats)])
    return pairs[:, 0], pairs[:, 1]


def measure_distance(exact: Cut, fast: Cut, frames: Sequence[UInt8Array]) -> dict[str, float]:
    """Return the largest and mean distance, and the shares of values over one and two levels."""
    one, two = np.asarray(exact(frames, LLAVA)[0]), torch.as_tensor(fast(frames, LLAVA)[0]).cpu()
    white, _ = exact([np.full_like(frame, 255) for frame in frames], LLAVA)
    distance = np.abs(one.astype(np.int16) - two.numpy())[np.asarray(white) > 0]
    return {
        "max_distance": float(distance.max()),
        "mean_distance": float(distance.mean()),
        "over_one": float((distance > 1).mean()),
        "over_two": float((distance > 2).mean()),
    }


def measure_kept(
    exact: Cut, fast: Cut, frames: Sequence[UInt8Array], encoder: VisionEncoder
) -> float:
    """Return which part of the tokens kept of exact tiles is kept of fast ones, over all frames."""
    kept: list[list[set[int]]] = []
    for cut in (exact, fast):
        batches = encoder.encode(*cut(frames, encoder.geometry))
        chosen = [mr_pruner(each.base, each.grid, keep_ratio=KEEP_RATIO) for each in batches]
        kept.append([set(indices.tolist()) for batch in chosen for indices in batch])
    shared = sum(len(one & two) for one, two in zip(*kept, strict=True))
    return shared / sum(map(len, kept[0]))


def measure_size(
    size: str, exact: Cut, fast: Cut, encoders: Sequence[VisionEncoder], options: argparse.Namespace
) -> Row:
    """Measure all at one size, ``WIDTHxHEIGHT``."""
    width, height = map(int, size.split("x"))
    real = read_frames(options.clips, width, height, options.frames)
    frames = real or [draw_frame(width, height, seed) for seed in range(options.frames)]
    device = encoders[0].device
    exact_seconds, fast_seconds = measure_time(exact, fast, frames, options.repeats, device)
    wall, cpu = (
        statistics.quantiles(ratios, n=4, method="inclusive")
        for ratios in (exact_seconds / fast_seconds).T.tolist()
    )
    return Row(
        size=size,
        source="real" if real else "drawn",
        exact_milliseconds=1000 * statistics.median(exact_seconds[:, 0].tolist()),
        fast_milliseconds=1000 * statistics.median(fast_seconds[:, 0].tolist()),
        ratio=wall[1],
        ratio_quartiles=(wall[0], wall[2]),
        cpu_ratio=cpu[1],
        cpu_ratio_quartiles=(cpu[0], cpu[2]),
        **measure_distance(exact, fast, frames),
        kept_embedded=measure_kept(exact, fast, frames, encoders[0]),
        kept_random=measure_kept(exact, fast, frames, encoders[1]),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of the rows."""
    lines = [
        "| size | frames | exact, ms | fast, ms | ratio (quartiles) | of CPU | max | mean "
        "| > 1 | > 2 | kept alike, embedded | kept alike, random |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        low, high = row.ratio_quartiles
        least, most = row.cpu_ratio_quartiles
        lines.append(
            f"| {row.size} | {row.source} | {row.exact_milliseconds:.1f} "
            f"| {row.fast_milliseconds:.1f} | {row.ratio:.1f} ({low:.1f}-{high:.1f}) "
            f"| {row.cpu_ratio:.1f} ({least:.1f}-{most:.1f}) "
            f"| {row.max_distance:.0f} | {row.mean_distance:.4f} | {100 * row.over_one:.4f} % "
            f"| {100 * row.over_two:.4f} % | {100 * row.kept_embedded:.2f} % "
            f"| {100 * row.kept_random:.2f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, help="folder of clips to take frames from")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--clips-per-kind", type=int, default=2, help="drawn clips to ask about")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fast = partial(cut_pictures_on, torch.device(options.device))
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        places = (locate("embedded"), folder)
        encoders = [
            VisionEncoder(place, device=options.device, dtype=torch.float32) for place in places
        ]
        rows = [measure_size(size, cut_pictures, fast, encoders, options) for size in options.sizes]
    answers = compare_answers(encoders[0], cut_pictures, fast, KEEP_RATIO, options.clips_per_kind)
    card = torch.cuda.get_device_name() if options.device == "cuda" else "no accelerator"
    hardware = f"{describe_hardware()}, {card}, {options.threads} threads"
    print(f"{hardware}\n\n{table(rows)}\n\n{answers}")
    if options.json:
        found = {"hardware": hardware, "rows": [*map(asdict, rows)], "answers": asdict(answers)}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
