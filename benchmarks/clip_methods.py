"""Time the methods that choose across a clip, beside MR-Pruner on the same features.

Run: python -m benchmarks.clip_methods [--methods vcast floc] [--frames 8] [--dim 4096]
     [--keep-ratio 0.1] [--repeats 3] [--threads N] [--json PATH]

All methods run in turn, round after round, the first to warm up. On shared cores the ratio of
processor seconds to MR-Pruner's in the same round means most.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

from benchmarks.pruner_speed import (
    COLUMNS,
    NUM_BASE,
    ROWS,
    Seconds,
    at_least_two,
    make_clip,
    run_fast,
    timed,
)
from pruner import METHODS
from streaming.bench.hardware import describe_hardware
from workers.process import prepare_process

BESIDE = "mr_pruner"
CHOOSING = tuple(name for name, method in METHODS.items() if method.scope in ("clip", "share"))


def measure(options: argparse.Namespace) -> dict[str, list[Seconds]]:
    """Seconds of each method in each round, those of the warm-up left out."""
    base, grid = make_clip(options.frames, options.dim, options.noise)
    num_keep = int(options.keep_ratio * (NUM_BASE + ROWS * (COLUMNS + 1)))
    times: dict[str, list[Seconds]] = {name: [] for name in (BESIDE, *options.methods)}
    for _ in range(options.repeats + 1):
        for name, own in times.items():
            own.append(timed(partial(run_fast, name, base, grid, num_keep), "cpu"))
    return {name: own[1:] for name, own in times.items()}


def describe(name: str, times: list[Seconds], beside: list[Seconds], num_frames: int) -> str:
    """Return a row of the table."""
    clock, processor = (
        1000 * statistics.median(own) / num_frames for own in zip(*times, strict=True)
    )
    ratios = [own[1] / other[1] for own, other in zip(times, beside, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    ratio = f"{middle:.2f} ({low:.2f}-{high:.2f})"
    return f"| {name} | {clock:.0f} | {processor:.0f} | {ratio} |"


def main() -> None:
    """Parse the command line, measure, print."""
    prepare_process()
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--methods", nargs="+", default=CHOOSING, choices=CHOOSING)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--noise", type=float, default=0.9)
    parser.add_argument("--repeats", type=at_least_two, default=3, help="at least 2")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's default")
    parser.add_argument("--json", type=Path, help="also write all seconds here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    print(f"{describe_hardware()}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads; {options.frames} frames of ", end="")
    print(f"{NUM_BASE} + {ROWS} x {COLUMNS} tokens, D = {options.dim:,}; ms a frame")
    print(f"| method | clock | CPU | CPU, to {BESIDE} |\n|---|---:|---:|---:|")
    times = measure(options)
    for name, own in times.items():
        print(describe(name, own, times[BESIDE], options.frames))
    if options.json is not None:
        options.json.write_text(json.dumps(times, indent=2) + "\n")


if __name__ == "__main__":
    main()
