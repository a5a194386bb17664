"""Time each pruning method against its plain form: dense matrices and loops, same tokens kept.

Run: python -m benchmarks.pruner_speed [--methods mr_pruner gprune] [--dims 1024 4096] [--tower]
     [--noise 0.9] [--frames 2] [--repeats 7] [--threads N] [--device cuda] [--json PATH]

Both forms run in turn. On shared cores the ratio of processor seconds of one thread means most. How
many pairs of tokens are neighbours matters to the fast form, and `--noise` sets it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pruner import METHODS, Settings, Task, choose, rank
from streaming.bench.hardware import describe_hardware
from workers.process import prepare_process

if TYPE_CHECKING:
    from torch import Tensor

NUM_BASE, ROWS, COLUMNS, TILES = 576, 48, 48, 5
KEEP_RATIO = 0.1
Clip = tuple["Tensor", "Tensor"]
Seconds = tuple[float, float]
"""By the clock, and of the processor: all threads of the process together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method at one width; seconds are of one frame, medians, clock then processor."""

    method: str
    dim: int
    share_of_neighbours: float
    plain_seconds: Seconds
    fast_seconds: Seconds
    ratio_quartiles: tuple[list[float], list[float]]
    tower_seconds: Seconds | None
    num_different: int


def make_clip(num_frames: int, dim: int, noise: float) -> Clip:
    """Tokens of twelve clusters that both resolutions share; more noise, fewer neighbours."""
    import torch

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, dim, generator=generator)

    def tokens(*shape: int) -> Tensor:
        cluster = torch.randint(12, shape, generator=generator)
        spread = torch.rand(*shape, 1, generator=generator) * noise
        scale = 0.5 + 1.5 * torch.rand(*shape, 1, generator=generator)
        mixed: Tensor = centres[cluster] + spread * torch.randn(*shape, dim, generator=generator)
        return mixed.mul_(scale)

    return tokens(num_frames, NUM_BASE), tokens(num_frames, ROWS, COLUMNS)


def share_of_neighbours(grid: Tensor) -> float:
    """Share of pairs of grid tokens (rows, columns, D) whose cosine is that of neighbours."""
    from torch.nn.functional import normalize

    units = normalize(grid.float().flatten(0, 1), dim=1)
    return float((units @ units.T >= Settings().similarity).float().mean())


def run_fast(name: str, base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """Indices kept of each frame, as the package chooses them."""
    method, num_frames = METHODS[name], len(base)
    if method.scope != "frame":
        newline = base.new_ones(base.shape[2])
        return [kept for _, kept in choose(name, base, grid, newline, [num_keep] * num_frames)]
    settings = Settings(num_steps=method.num_steps)
    task = Task(frame_indices=range(num_frames), num_keep=num_keep, settings=settings)
    order = rank(name, base, grid, task).order
    return list(order[:, :num_keep].sort(dim=1).values)


def at_least_two(text: str) -> int:
    """Return how often to measure: of one time there are no quartiles."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError("quartiles need 2 at least")
    return int(text)


def timed(call: Callable[[], object], device: str) -> Seconds:
    """Seconds of one call, the device's queue drained on both sides."""
    import torch

    def drain() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    drain()
    clock, processor = time.perf_counter(), time.process_time()
    call()
    drain()
    return time.perf_counter() - clock, time.process_time() - processor


def make_tower(device: str, num_tiles: int = TILES) -> Callable[[], object]:
    """Run tiles (those of a frame) through LLaVA-NeXT's layers of CLIP-L/336, random weights."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=23,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    tower = CLIPVisionModel(config).to(device).eval()
    pixel_values = torch.randn(num_tiles, 3, 336, 336, device=device)

    def run() -> object:
        with torch.inference_mode():
            return tower(pixel_values)

    return run


def measure(name: str, clip: Clip, repeats: int, tower: Callable[[], object] | None) -> Row:
    """Run both forms in turn, warm-up first, and compare what they keep."""
    from streaming.bench.plain_pruners import PLAIN

    base, grid = clip
    device, num_keep = base.device.type, int(KEEP_RATIO * (NUM_BASE + ROWS * (COLUMNS + 1)))
    calls: list[Callable[[], object]] = [
        lambda: PLAIN[name](base, grid, num_keep),
        lambda: run_fast(name, base, grid, num_keep),
    ]
    kept = zip(PLAIN[name](base, grid, num_keep), run_fast(name, base, grid, num_keep), strict=True)
    num_different = sum(len(set(one.tolist()) - set(two.tolist())) for one, two in kept)
    times = [[timed(call, device) for call in calls] for _ in range(repeats)]
    plain, fast = ([pair[form] for pair in times] for form in (0, 1))
    return Row(
        method=name,
        dim=base.shape[2],
        share_of_neighbours=share_of_neighbours(grid[0]),
        plain_seconds=_median(plain, len(base)),
        fast_seconds=_median(fast, len(base)),
        ratio_quartiles=(_ratios(plain, fast, 0), _ratios(plain, fast, 1)),
        tower_seconds=_median([timed(tower, device) for _ in range(3)], 1) if tower else None,
        num_different=num_different,
    )


def _median(times: Sequence[Seconds], num_frames: int) -> Seconds:
    clock, processor = (statistics.median(one) / num_frames for one in zip(*times, strict=True))
    return clock, processor


def _ratios(plain: Sequence[Seconds], fast: Sequence[Seconds], which: int) -> list[float]:
    """Lower quartile, median and upper quartile of the paired ratios."""
    ratios = [one[which] / two[which] for one, two in zip(plain, fast, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")


def describe(row: Row) -> str:
    """Return a row of the table."""
    quartiles = [f"{mid:.2f} ({low:.2f}-{high:.2f})" for low, mid, high in row.ratio_quartiles]
    tower = f"{row.fast_seconds[1] / row.tower_seconds[1]:.1%}" if row.tower_seconds else "-"
    times = [f"{1000 * seconds:.0f}" for seconds in (*row.plain_seconds, *row.fast_seconds)]
    neighbours = f"{row.share_of_neighbours:.0%}"
    cells = [row.method, f"{row.dim:,}", neighbours, *times, *quartiles, tower, row.num_different]
    return f"| {' | '.join(map(str, cells))} |"


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    tower = make_tower(options.device) if options.tower else None
    for dim in options.dims:
        clip = make_clip(options.frames, dim, options.noise)
        base, grid = (tokens.to(options.device, options.dtype) for tokens in clip)
        for name in options.methods:
            yield measure(name, (base, grid), options.repeats, tower)


def main() -> None:
    """Parse the command line, measure, print."""
    prepare_process()
    import torch

    from streaming.bench.plain_pruners import PLAIN

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--methods", nargs="+", default=list(PLAIN), choices=list(PLAIN))
    parser.add_argument("--dims", nargs="+", type=int, default=[4096])
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--repeats", type=at_least_two, default=7, help="at least 2")
    parser.add_argument("--noise", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's default")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", type=lambda name: getattr(torch, name))
    parser.add_argument("--tower", action="store_true", help="time CLIP-L/336 on five tiles too")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{describe_hardware()}, {device}, torch {torch.__version__}", end=", ")
    print(f"{torch.get_num_threads()} threads; {options.frames} frames of ", end="")
    print(f"{NUM_BASE} + {ROWS} x {COLUMNS} tokens, {options.dtype}; ms a frame")
    print("| method | D | neighbours | plain: clock | CPU | fast: clock | CPU ", end="")
    print("| ratio by clock | ratio by CPU | of the tower | kept otherwise |")
    print("|---|---:|---:|---:|---:|---:|---:|---|---|---:|---:|")
    rows = []
    for row in _rows(options):
        rows.append(row)
        print(describe(row), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
