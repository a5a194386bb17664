"""Time the fast token graph of MR-Pruner against a straightforward dense form of the same scores.

Run: python -m benchmarks.pruner_speed [--dim 1024 --frames 2 --repeats 7] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from pruner import score_frames

NUM_BASE, ROWS, COLUMNS = 576, 48, 48
SIMILARITY, TEMPERATURE, BETA, KEEP_RATIO = 0.5, 0.03, 0.5, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured, on what; times are seconds for all frames."""

    hardware: str
    torch_version: str
    num_threads: int
    num_frames: int
    dim: int
    dtype: str
    repeats: int
    dense_seconds: list[float]
    fast_seconds: list[float]
    dense_median_seconds: float
    fast_median_seconds: float
    median_ratio: float
    ratio_quartiles: list[float]
    largest_relative_difference: float
    dense_peak_bytes: int | None
    fast_peak_bytes: int | None


def make_frames(
    num_frames: int, dim: int, device: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Clustered random tokens: about one pair in nine is a pair of neighbours."""
    generator = torch.Generator().manual_seed(0)

    def tokens(*shape: int) -> Tensor:
        centres = torch.randn(12, dim, generator=generator)
        cluster = torch.randint(12, shape, generator=generator)
        noise = torch.rand(*shape, 1, generator=generator) * 0.9
        scale = 0.5 + 1.5 * torch.rand(*shape, 1, generator=generator)
        mixed = centres[cluster] + noise * torch.randn(*shape, dim, generator=generator)
        return (mixed * scale).to(device, dtype)

    return tokens(num_frames, NUM_BASE), tokens(num_frames, ROWS, COLUMNS)


def dense_transition(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The row-stochastic matrix as a softmax over thresholded cosines, and its degrees."""
    unit_rows = torch.nn.functional.normalize(rows, dim=-1)
    unit_columns = torch.nn.functional.normalize(columns, dim=-1)
    cosines = unit_rows @ unit_columns.transpose(-1, -2)
    logits = torch.where(cosines < SIMILARITY, -5000.0, cosines / TEMPERATURE)
    transition = logits.softmax(dim=-1)
    return transition, (transition > 0).sum(dim=-1)


def dense_scores(base: Tensor, grid: Tensor, num_keep: int) -> tuple[Tensor, Tensor]:
    """Base and grid scores of one frame (N1, D), (R, C, D), written down as the paper has them."""
    base, grid = base.float(), grid.flatten(0, 1).float()
    base_norms, grid_norms = base.norm(dim=-1), grid.norm(dim=-1)
    base_transition, base_degrees = dense_transition(base, base)
    grid_transition, grid_degrees = dense_transition(grid, grid)
    base_scores = base_norms @ base_transition / base_degrees
    grid_scores = grid_norms @ grid_transition / grid_degrees
    share = base_norms.mean() / (base_norms.mean() + grid_norms.mean())
    num_grid = num_keep - int(num_keep * share)
    pruned = grid_scores.argsort(descending=True)[num_grid:].sort().values
    cross, degrees = dense_transition(base, grid[pruned])
    return base_scores + BETA * (cross @ grid_norms[pruned]) / degrees, grid_scores


def run_dense(base: Tensor, grid: Tensor, num_keep: int) -> tuple[Tensor, Tensor]:
    """All frames, one after the other."""
    scores = [dense_scores(*frame, num_keep) for frame in zip(base, grid, strict=True)]
    return torch.stack([one[0] for one in scores]), torch.stack([one[1] for one in scores])


def run_fast(base: Tensor, grid: Tensor, num_keep: int) -> tuple[Tensor, Tensor]:
    """All frames, as the package does it, with the published split."""
    scores = score_frames(base, grid, num_keep=num_keep, reference=True)
    return scores.base, scores.grid


def timed(call: Callable[[], tuple[Tensor, Tensor]], device: str) -> float:
    """Seconds of one call, the device's queue drained on both sides."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], tuple[Tensor, Tensor]], device: str) -> int | None:
    """Device memory of one call beyond what was held before it; None on CPUs."""
    if device == "cpu":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - held


def hardware(device: str) -> str:
    """Name of the accelerator, or of the processor."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({len(names)} cores)"


def measure(num_frames: int, dim: int, repeats: int, device: str, dtype: str) -> Report:
    """Run both forms in turn, warm-up first, and compare what they give."""
    base, grid = make_frames(num_frames, dim, device, getattr(torch, dtype))
    num_keep = int(KEEP_RATIO * (NUM_BASE + ROWS * (COLUMNS + 1)))

    def dense() -> tuple[Tensor, Tensor]:
        return run_dense(base, grid, num_keep)

    def fast() -> tuple[Tensor, Tensor]:
        return run_fast(base, grid, num_keep)

    pairs = zip(dense(), fast(), strict=True)  # warm-up
    difference = max(float(((one - two).abs() / one).max()) for one, two in pairs)
    times = [(timed(dense, device), timed(fast, device)) for _ in range(repeats)]
    ratios = [dense_time / fast_time for dense_time, fast_time in times]
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if repeats > 1 else ratios
    return Report(
        hardware=hardware(device),
        torch_version=torch.__version__,
        num_threads=torch.get_num_threads(),
        num_frames=num_frames,
        dim=dim,
        dtype=dtype,
        repeats=repeats,
        dense_seconds=[one for one, _ in times],
        fast_seconds=[two for _, two in times],
        dense_median_seconds=statistics.median(one for one, _ in times),
        fast_median_seconds=statistics.median(two for _, two in times),
        median_ratio=statistics.median(ratios),
        ratio_quartiles=[quartiles[0], quartiles[-1]],
        largest_relative_difference=difference,
        dense_peak_bytes=peak_bytes(dense, device),
        fast_peak_bytes=peak_bytes(fast, device),
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--json", type=Path, help="also write the report here")
    arguments = parser.parse_args()
    report = measure(
        arguments.frames, arguments.dim, arguments.repeats, arguments.device, arguments.dtype
    )
    low, high = report.ratio_quartiles
    per_frame = 1000 / report.num_frames
    print(f"{report.hardware}, torch {report.torch_version}, {report.num_threads} threads")
    print(f"{report.num_frames} frames of {NUM_BASE} + {ROWS} x {COLUMNS} tokens, D = {report.dim}")
    print(f"dense {report.dense_median_seconds * per_frame:8.1f} ms/frame (median)")
    print(f"fast  {report.fast_median_seconds * per_frame:8.1f} ms/frame (median)")
    print(f"ratio {report.median_ratio:.2f}x (quartiles {low:.2f}-{high:.2f})")
    print(f"largest relative difference of a score {report.largest_relative_difference:.1e}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
