"""What an evaluation gains from clips side by side, and what that does to the seconds of a stage.

25 drawn clips of 2 to 32 frames on one engine that is warm, asked in turns with one clip at a time
and with several. The answers must be equal.

Run: python -m benchmarks.side_by_side [--repeats 5] [--questions 10] [--json PATH]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streaming.bench.hardware import describe_hardware
from streaming.engine import open_engine
from streaming.evaluate.answering import answer_clip
from streaming.evaluate.cells import Cell, make_cells
from streaming.evaluate.questions import Question, read_questions
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import in_flight
from training.make_set import draw_set
from workers.run.engine import Engine

_LIMITS = (1, 2, 4, 8)
_NUM_FRAMES = (2, 4, 8, 16, 32)
_STAGES = ("decode", "tile", "encode", "prune", "prefill", "generate")


def evaluate(
    engine: Engine, clips: Sequence[Sequence[Question]], cells: Sequence[Cell], limit: int
) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds that all clips took, and their records in order."""
    begin = time.perf_counter()
    records: list[dict[str, Any]] = []
    for _, found in in_flight(
        lambda clip: list(answer_clip(engine, clip, cells)), clips, limit=limit
    ):
        if not isinstance(found, list):
            raise found
        records += found
    seconds = time.perf_counter() - begin
    return seconds, sorted(records, key=lambda r: (r["clip"], r["row"], r["kept"], r["seed"]))


def busy(records: Sequence[dict[str, Any]]) -> Counter[str]:
    """Return the seconds of each stage over all clips; those of encoding once a clip."""
    total: Counter[str] = Counter()
    for record in records:
        total.update(record["seconds"])
    rows = len({(record["row"], record["kept"], record["seed"]) for record in records})
    return Counter({s: v / (rows if s in _STAGES[:3] else 1) for s, v in total.items()})


def main() -> None:
    """Print the ratio of times to one clip at a time, and each stage's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--questions", type=int, default=10, help="about each clip")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--pruners", nargs="+", default=["none", "mr_pruner"])
    parser.add_argument("--json", metavar="PATH")
    arguments = parser.parse_args()
    settings = {"max_new_tokens": 16, "executor": arguments.executor}
    options = change(Options(), settings, source="the benchmark")
    cells = make_cells(
        options,
        pruners=arguments.pruners,
        variants=[],
        keep_ratios=[0.5, 0.1],
        budgets=[],
        num_seeds=1,
    )
    times: dict[int, list[float]] = {limit: [] for limit in _LIMITS}
    stages: dict[int, list[Counter[str]]] = {limit: [] for limit in _LIMITS}
    with tempfile.TemporaryDirectory() as folder, open_engine(options) as engine:
        clips = read_questions(draw_set(Path(folder), 5, 1, _NUM_FRAMES, arguments.questions))
        _, first = evaluate(engine, clips, cells, 1)
        for number in range(arguments.repeats):
            turn = number % len(_LIMITS)
            for limit in _LIMITS[turn:] + _LIMITS[:turn]:
                seconds, records = evaluate(engine, clips, cells, limit)
                if [r["answers"] for r in records] != [r["answers"] for r in first]:
                    raise RuntimeError(f"other answers with {limit} clips side by side")
                times[limit].append(seconds)
                stages[limit].append(busy(records))
    print(describe_hardware())
    print(
        f"{len(clips)} clips, {len(cells)} cells, {arguments.executor}; {arguments.repeats} runs\n"
    )
    print(f"| clips side by side | seconds | ratio to 1 | {' | '.join(_STAGES)} |")
    print("|---|---|---|" + "---|" * len(_STAGES))
    for limit in _LIMITS:
        ratios = [one / some for one, some in zip(times[1], times[limit], strict=True)]
        cost = [f"{statistics.median(s[stage] for s in stages[limit]):.2f} s" for stage in _STAGES]
        print(f"| {limit} | {_spread(times[limit])} | {_spread(ratios)} | {' | '.join(cost)} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"seconds": times, "stages": stages}, indent=1))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
