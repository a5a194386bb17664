"""Measure what pruning costs: ``python -m streaming.evaluate QUESTIONS --output FOLDER``.

Every method (or every ``--variant`` of the options) answers the same questions on the same frames
and features at the same budgets. FOLDER gets ``answers.jsonl``, with which an interrupted run goes
on, ``table.json``, ``table.md`` and ``tradeoff.png``; the table is also printed. Exit status: 0
done; 1 the model or the run failed, or no clip could be read; 2 usage; 130 interrupted.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from streaming.cells import DEFAULT_KEEP_RATIOS, UNPRUNED, Cell, make_cells
from streaming.command import Parser, leave, run_command, say
from streaming.config import PRUNERS, Options, add_flags, read_options
from streaming.pipeline import EncodedClip, ask, choose, encode, num_segments, open_pool
from streaming.plan import ClipPlan, Source, open_source, plan_clip
from streaming.question_set import Question, is_right, read_questions
from streaming.result import Answer
from streaming.scoring import load_records, score
from streaming.tables import write_tables
from workers.errors import InputError, VideoError
from workers.pool import Pool

ANSWERS = "answers.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("questions", type=Path, help="JSON lines: clip, question, answers, type")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=PRUNERS, metavar="NAME")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="OPTION=VALUE,...",
        help="a row of its own instead of the pruners', for example novelty=true; repeat it",
    )  # fmt: skip
    parser.add_argument(
        "--keep-ratios", nargs="*", type=float, default=DEFAULT_KEEP_RATIOS, metavar="FRACTION"
    )
    parser.add_argument("--budgets", nargs="*", type=int, default=(), metavar="TOKENS")
    parser.add_argument("--limit", type=int, help="ask only so many questions, of random clips")
    parser.add_argument("--seeds", type=int, default=3, help="how often random draws (default: 3)")
    parser.add_argument("--baseline", help="row that the others are compared with")
    add_flags(parser, without=("budget", "keep_ratio", "pruner"))
    return parser.parse_args(arguments)


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    options = read_options(arguments)
    for name in ("limit", "seeds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least 1")
    clips = read_questions(arguments.questions, limit=arguments.limit, seed=options.seed)
    cells = make_cells(
        options,
        pruners=arguments.pruners,
        variants=arguments.variant,
        keep_ratios=arguments.keep_ratios,
        budgets=arguments.budgets,
        num_seeds=arguments.seeds,
    )
    rows = list(dict.fromkeys(cell.row for cell in cells))
    baseline = arguments.baseline or (UNPRUNED if UNPRUNED in rows else rows[0])
    if baseline not in rows:
        raise InputError(f"--baseline {baseline}: is none of the rows {', '.join(rows)}")
    answers = _open_output(arguments.output, options)
    failures = _answer_all(answers, options, clips, cells)
    wanted = {cell.key for cell in cells}, {_name(group[0]) for group in clips}
    records = [r for r in load_records(answers) if r.key in wanted[0] and r.clip in wanted[1]]
    if not records:
        raise VideoError(f"{arguments.questions}: not one clip could be read ({failures[0]})")
    result = score(records, rows=rows, baseline=baseline, failures=failures)
    print(write_tables(arguments.output, result, options), file=output, end="", flush=True)


def _open_output(folder: Path, options: Options) -> Path:
    """Make the folder, or see that what is in it was made with the same options."""
    settled = json.dumps(dataclasses.asdict(options), indent=1, sort_keys=True)
    path = folder / "options.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(settled)
        elif path.read_text() != settled:
            raise InputError(
                f"--output {folder}: holds a run with other options (options.json): choose another "
                "folder, or remove it"
            )
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
    return folder / ANSWERS


def _answer_all(
    path: Path, options: Options, clips: Sequence[Sequence[Question]], cells: Sequence[Cell]
) -> list[str]:
    """Ask whatever has not been asked yet; returns why clips were left out."""
    done = {(record.key, record.clip, record.num_questions) for record in load_records(path)}
    todo = [
        (group, [c for c in cells if (c.key, _name(group[0]), len(group)) not in done])
        for group in clips
    ]
    num_questions = sum(len(group) * len(missing) for group, missing in todo)
    failures: list[str] = []
    if not num_questions:
        return failures
    bar = tqdm(total=num_questions, unit="question", file=sys.stderr, smoothing=0)
    with open_pool(options) as pool, path.open("a", encoding="utf-8") as file, bar:
        for group, missing in todo:
            if not missing:
                continue
            try:
                for record in _answer_clip(pool, group, missing):
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    bar.update(len(group))
            except VideoError as error:
                say(f"left out: {error}")
                failures.append(str(error))
    return failures


def _name(question: Question) -> str:
    frames = "" if question.num_frames is None else f"@{question.num_frames}"
    return f"{question.clip}{frames}"


def _answer_clip(
    pool: Pool, questions: Sequence[Question], cells: Sequence[Cell]
) -> Iterator[dict[str, Any]]:
    """Yield one record for each cell; cells that look at the same pictures share their encoding."""
    texts = [question.text for question in questions]
    planned = [_plan(pool, questions[0], cell, texts) for cell in cells]
    groups: dict[Any, list[int]] = {}
    for number, (_, plan) in enumerate(planned):
        pts = tuple(int(t) for segment in plan.segments for t in segment.pts)
        groups.setdefault((pts, plan.prune.base_only), []).append(number)
    for numbers in groups.values():
        before = _busy(pool)
        plans = [planned[number][1] for number in numbers]
        clip = encode(pool, planned[numbers[0]][0], plans, started=time.perf_counter())
        shared = {k: v - before[k] for k, v in _busy(pool).items() if k in ("decode", "encode")}
        for place, number in enumerate(numbers):
            yield _answer_cell(pool, clip, place, cells[number], questions, shared)


def _plan(
    pool: Pool, question: Question, cell: Cell, texts: Sequence[str]
) -> tuple[Source, ClipPlan]:
    """Plan a clip for a cell, whose budget counts tokens of both resolutions."""
    whole = _open(
        question.clip, _sampling(replace(cell, frame_factor=1.0), question, base_only=False)
    )
    seen = _sampling(cell, question, base_only=cell.options.base_only)
    source = _open(question.clip, seen)
    budget = cell.budget_for(len(whole.frame_indices) * whole.geometry.num_tokens)
    options = replace(cell.options, num_frames=seen.num_frames, fps=seen.fps, budget=budget)
    plan = plan_clip(
        source, options, texts, pool.measure, num_segments=num_segments(options), thumbnail_width=0
    )
    return source, plan


@lru_cache(maxsize=8)
def _open(clip: str, sampling: Options) -> Source:
    return open_source(clip, sampling)


def _sampling(cell: Cell, question: Question, *, base_only: bool) -> Options:
    """Return a cell's options with everything left out that does not choose frames."""
    options = cell.sampling(question.num_frames)
    return Options(
        model=options.model, num_frames=options.num_frames, fps=options.fps,
        start=options.start, end=options.end, base_only=base_only,
    )  # fmt: skip


def _busy(pool: Pool) -> dict[str, float]:
    """Return busy seconds by stage, summed over the workers."""
    seconds: dict[str, float] = defaultdict(float)
    for usage in pool.usage().values():
        for stage, value in usage.seconds.items():
            seconds[stage] += value
    return seconds


def _answer_cell(
    pool: Pool,
    encoded: EncodedClip,
    place: int,
    cell: Cell,
    questions: Sequence[Question],
    shared: dict[str, float],
) -> dict[str, Any]:
    before = _busy(pool).get("select", 0.0)
    clip = choose(pool, encoded, place)
    seconds = defaultdict(float, shared)
    seconds["prune"] = _busy(pool)["select"] - before + sum(f.prune_seconds for f in clip.frames)
    said = []
    for question in questions:
        (answer,) = (
            x for x in ask(pool, clip, cell.options, question.text) if isinstance(x, Answer)
        )
        for stage in ("prefill", "generate"):
            seconds[stage] += answer.seconds[stage]
        right = is_right(answer.answer, question.answers)
        said.append({"type": question.type, "question": question.text, "answer": answer.answer,
                     "right": right})  # fmt: skip
    return {
        "row": cell.row, "kept": cell.kept, "seed": cell.options.seed,
        "clip": _name(questions[0]),
        "budget": clip.plan.budget.budget,
        "num_visual_tokens": answer.num_visual_tokens,
        "num_unpruned_tokens": clip.plan.num_unpruned_tokens,
        "num_frames": clip.plan.num_frames,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "answers": said,
    }  # fmt: skip


if __name__ == "__main__":
    leave(main())
