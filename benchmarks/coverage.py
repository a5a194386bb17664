"""Time what coverage does with a clip's candidates against the vision tower of its frames.

Run: python -m benchmarks.coverage [--budgets 512 4096] [--frames 32] [--dim 4096] [--repeats 5]
     [--threads N] [--json PATH]

All sides run in turn: CLIP-L/336 takes one tile, of which a frame has five; the choice is among
four times the budget; then each candidate counts for one that is chosen, as proportional attention
wants it, and in one frame each of 2,928 tokens for one ranked before it. On shared cores ratios of
processor seconds mean most.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pruner_speed import COLUMNS, NUM_BASE, ROWS, TILES, at_least_two, make_tower, timed
from pruner import Candidates, FrameLayout, choose_candidates, stand_ins, token_sizes
from streaming.bench.hardware import describe_hardware
from workers.process import prepare_process

if TYPE_CHECKING:
    from torch import Tensor

HEADROOM = 4
LAYOUT = FrameLayout(num_base=NUM_BASE, rows=ROWS, columns=COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One budget; processor seconds of all frames, medians; shares of the tower's, quartiles."""

    budget: int
    num_candidates: int
    dim: int
    num_frames: int
    choice_seconds: float
    sizes_seconds: float
    stand_ins_seconds: float
    tower_seconds: float
    choice_share_quartiles: list[float]
    whole_share_quartiles: list[float]


def make_candidates(budget: int, num_frames: int, dim: int) -> Candidates:
    """Tokens of scenes of eight frames: each shows forty things again, a little changed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count = HEADROOM * budget // num_frames

    def draw(frame: int) -> Tensor:
        scene = torch.Generator().manual_seed(1 + frame // 8)
        things = torch.randn(40, dim, generator=scene)
        tokens = things[torch.randint(40, (count,), generator=generator)]
        return tokens + 0.5 * torch.randn(count, dim, generator=generator)

    orders = [torch.randperm(LAYOUT.num_tokens, generator=generator) for _ in range(num_frames)]
    return Candidates(
        features=torch.cat([draw(frame) for frame in range(num_frames)]),
        order=torch.cat([order[:count] for order in orders]),
        counts=[count] * num_frames,
        frame_indices=range(num_frames),
        layouts=[LAYOUT] * num_frames,
    )


def measure(
    budget: int, num_frames: int, dim: int, repeats: int, tile: Callable[[], object]
) -> Row:
    """Run both sides in turn, warm-up first."""
    import torch

    candidates = make_candidates(budget, num_frames, dim)
    times = torch.arange(num_frames).repeat_interleave(torch.tensor(candidates.counts))
    frame = torch.randn(LAYOUT.num_tokens, dim, generator=torch.Generator().manual_seed(0))
    chosen = choose_candidates("coverage", candidates, budget)
    sides: list[Callable[[], object]] = [
        lambda: choose_candidates("coverage", candidates, budget),
        lambda: token_sizes(candidates.features, times, chosen, torch.ones_like(times)),
        lambda: stand_ins(frame),
        tile,
    ]
    for side in sides:
        side()
    runs = [[timed(side, "cpu")[1] for side in sides] for _ in range(repeats)]
    scale = (1, 1, num_frames, TILES * num_frames)
    runs = [[seconds * each for seconds, each in zip(run, scale, strict=True)] for run in runs]
    choice, sizes, found, tower = (statistics.median(side) for side in zip(*runs, strict=True))
    return Row(
        budget=budget,
        num_candidates=len(candidates.features),
        dim=dim,
        num_frames=num_frames,
        choice_seconds=choice,
        sizes_seconds=sizes,
        stand_ins_seconds=found,
        tower_seconds=tower,
        choice_share_quartiles=_quartiles([run[0] / run[3] for run in runs]),
        whole_share_quartiles=_quartiles([sum(run[:3]) / run[3] for run in runs]),
    )


def _quartiles(shares: list[float]) -> list[float]:
    return statistics.quantiles(shares, n=4, method="inclusive")


def describe(row: Row) -> str:
    """Return a row of the table."""
    shares = [
        "{1:.2%} ({0:.2%}-{2:.2%})".format(*quartiles)
        for quartiles in (row.choice_share_quartiles, row.whole_share_quartiles)
    ]
    cells = [f"{row.budget:,}", f"{row.num_candidates:,}", row.num_frames, f"{row.dim:,}",
             f"{row.choice_seconds:.2f}", f"{row.sizes_seconds:.2f}",
             f"{row.stand_ins_seconds:.2f}", f"{row.tower_seconds:.1f}", *shares]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Parse the command line, measure, print."""
    prepare_process()
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--budgets", nargs="+", type=int, default=[512, 4096])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--repeats", type=at_least_two, default=5, help="at least 2")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's default")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    tile = make_tower("cpu", num_tiles=1)
    print(f"{describe_hardware()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        "| budget | candidates | frames | D | choice, CPU s | sizes | stand-ins | tower "
        "| choice / tower | all three |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---|---|")
    rows = []
    for budget in options.budgets:
        rows.append(measure(budget, options.frames, options.dim, options.repeats, tile))
        print(describe(rows[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
