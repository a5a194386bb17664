"""Measure what pruning costs: ``python -m streaming.evaluate QUESTIONS --output FOLDER``.

Every method (and every ``--variant`` of the options) answers the same questions on the same frames
and features at the same budgets. FOLDER gets ``answers.jsonl``, with which an interrupted run goes
on, ``table.json``, ``table.md`` and ``tradeoff.png``; the table is also printed. A clip that cannot
be asked is recorded there with the reason, and left out of every row. Exit status: 0 done; 1 the
model or the run failed, or no clip could be asked; 2 usage; 130 interrupted.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from pruner import METHODS
from streaming.command import Parser, run_command, say
from streaming.engine import open_engine
from streaming.evaluate.answering import answer_clip, clip_name
from streaming.evaluate.cells import DEFAULT_KEEP_RATIOS, UNPRUNED, Cell, make_cells
from streaming.evaluate.questions import Question, read_questions
from streaming.evaluate.records import AnswerFile, Failure, Record, load_outcomes
from streaming.evaluate.scoring import score
from streaming.evaluate.tables import write_tables
from streaming.flags import add_options, flat, read_options
from streaming.options import Options
from streaming.pipeline import in_flight
from streaming.sample import check_run
from workers.errors import InputError, StreamError, VideoError

ANSWERS = "answers.jsonl"
_RATIOS = " ".join(f"{ratio:g}" for ratio in DEFAULT_KEEP_RATIOS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("questions", type=Path, help="JSON lines: clip, question, answers, type")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--pruners", nargs="+", choices=tuple(METHODS), metavar="NAME",
        help="a row each (default: all, without --variant)",
    )  # fmt: skip
    parser.add_argument(
        "--variant", action="append", default=[], metavar="[NAME:]OPTION=VALUE,...",
        help="a row of its own, for example 'aware: question_aware=true'; repeat it",
    )  # fmt: skip
    parser.add_argument(
        "--keep-ratios", nargs="*", type=float, default=DEFAULT_KEEP_RATIOS, metavar="FRACTION",
        help=f"columns of the table, shares of a clip's visual tokens (default: {_RATIOS})",
    )  # fmt: skip
    parser.add_argument(
        "--budgets", nargs="*", type=int, default=(), metavar="TOKENS",
        help="more columns, tokens of a clip (default: none)",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="ask only so many questions, of random clips")
    parser.add_argument("--seeds", type=int, default=3, help="how often random draws (default: 3)")
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask clips again that could not be asked"
    )
    parser.add_argument(
        "--baseline",
        help="row that the others are compared with (default: that of none, else the first)",
    )
    add_options(parser, without=("budget", "keep_ratio", "pruner", "bank", "bank_gib"))
    return parser.parse_args(arguments)


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    options = read_options(arguments)
    for name in ("limit", "seeds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name)}: must be at least 1")
    clips = read_questions(arguments.questions, limit=arguments.limit, seed=options.generation.seed)
    cells = make_cells(
        options,
        pruners=arguments.pruners or (() if arguments.variant else tuple(METHODS)),
        variants=arguments.variant,
        keep_ratios=arguments.keep_ratios,
        budgets=arguments.budgets,
        num_seeds=arguments.seeds,
    )
    rows = list(dict.fromkeys(cell.row for cell in cells))
    baseline = arguments.baseline or (UNPRUNED if UNPRUNED in rows else rows[0])
    if baseline not in rows:
        raise InputError(f"--baseline {baseline}: is none of the rows {', '.join(rows)}")
    answers = _open_output(arguments.output, options, arguments.questions)
    _answer_all(answers, options, clips, cells, retry_failed=arguments.retry_failed)
    wanted = {(cell.key, clip_name(group[0])) for cell in cells for group in clips}
    outcomes = [found for place, found in load_outcomes(answers).items() if place in wanted]
    failures = {found.clip: found for found in outcomes if isinstance(found, Failure)}
    records = [r for r in outcomes if isinstance(r, Record) and r.clip not in failures]
    if not records:
        raise VideoError(
            f"{arguments.questions}: not one clip could be asked "
            f"({next(iter(failures.values())).message}); --retry-failed tries them again"
        )
    result = score(records, rows=rows, baseline=baseline, failures=list(failures.values()))
    print(write_tables(arguments.output, result, options), file=output, end="", flush=True)


def _open_output(folder: Path, options: Options, questions: Path) -> Path:
    """Make the folder, or see that what is in it was made of the same questions and options."""
    digest = hashlib.sha256(questions.read_bytes()).hexdigest()
    decisive = {name: value for name, value in flat(options).items() if name != "clips_in_flight"}
    settled = json.dumps({"questions": digest, **decisive}, indent=1, sort_keys=True)
    path = folder / "options.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(settled)
        elif path.read_text() != settled:
            raise InputError(
                f"--output {folder}: holds a run of other questions or options (options.json): "
                "choose another folder, or remove it"
            )
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
    return folder / ANSWERS


def _answer_all(
    path: Path,
    options: Options,
    clips: Sequence[Sequence[Question]],
    cells: Sequence[Cell],
    *,
    retry_failed: bool,
) -> None:
    """Ask whatever has not been asked yet, several clips side by side.

    Raises:
        StreamError: something beside a clip failed, or the file cannot be written.
    """
    tried = load_outcomes(path)

    def is_done(cell: Cell, group: Sequence[Question]) -> bool:
        found = tried.get((cell.key, clip_name(group[0])))
        return (
            found is not None
            and found.num_questions == len(group)
            and not (retry_failed and isinstance(found, Failure))
        )

    todo = [(group, [cell for cell in cells if not is_done(cell, group)]) for group in clips]
    num_questions = sum(len(group) * len(missing) for group, missing in todo)
    if not num_questions:
        return
    check_run(options)
    bar = tqdm(total=num_questions, unit="question", file=sys.stderr, smoothing=0)
    with AnswerFile(path) as file, open_engine(options) as engine, bar:

        def work(clip: tuple[Sequence[Question], Sequence[Cell]]) -> str | None:
            for line in answer_clip(engine, *clip):
                file.append(line)
            return line["error"]["message"] if "error" in line else None

        asked = (clip for clip in todo if clip[1])
        for clip, outcome in in_flight(work, asked, limit=options.run.clips_in_flight):
            if isinstance(outcome, StreamError):
                raise outcome
            if outcome is not None:
                say(f"left out: {outcome}")
            bar.update(len(clip[0]) * len(clip[1]))
