"""What answers cost as the frame count grows: ``python -m streaming.bench [CLIP] --output DIR``.

Every method and executor that is asked for, transformers' own ``generate`` on all tokens, and as
many frames as fit the budget unpruned take turns at the same clip (a drawn one unless given), each
in a process of its own. DIR gets ``bench.json`` with every trial, ``bench.md`` and pictures; the
tables are also printed. What has been measured is kept after an interrupt. Exit status: 0 done; 1
the run failed; 2 usage; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pruner import METHODS
from streaming.bench.shapes import SHAPES
from streaming.command import Parser, run_command
from streaming.flags import add_options
from workers.errors import InputError

BASELINES = ("transformers", "fewer-frames", "plain-pruners")
_SETTLED = (
    "num_frames", "fps", "start", "end", "pruner", "executor", "cache_tokens", "bank", "bank_gib",
    "clips_in_flight",
)  # fmt: skip
DEFAULTS = {"budget": 512, "max_new_tokens": 16}
"""Other than elsewhere."""
_HELPS = {
    "budget": f"visual tokens for the whole clip (default: {DEFAULTS['budget']})",
    "max_new_tokens": f"longest answer (default: {DEFAULTS['max_new_tokens']})",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("clip", nargs="?", help="path of the video (default: one is drawn)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--frames", nargs="+", type=int, metavar="N",
        help="frame counts (default: 8, 16, 32, ... up to --max-frames)",
    )  # fmt: skip
    parser.add_argument("--max-frames", type=int, default=1024, metavar="N", help="default: 1024")
    parser.add_argument(
        "--pruners", nargs="+", choices=tuple(METHODS), default=("mr_pruner",), metavar="NAME",
        help="methods of this project (default: mr_pruner)",
    )  # fmt: skip
    parser.add_argument(
        "--executors", nargs="+", choices=("local", "ray"), default=("local",),
        help="where they run (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--baselines", nargs="*", choices=BASELINES, default=BASELINES,
        help="what they are up against (default: all)",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--point-seconds", type=float, default=600.0, metavar="X",
        help="most that a system gets for one frame count: once its trials come to that it makes "
        "no more of them, and one trial that takes longer puts it out (default: 600)",
    )  # fmt: skip
    parser.add_argument(
        "--clients", nargs="*", type=int, default=(1, 2, 4, 8, 16, 32), metavar="N",
        help="clients that ask at once about a clip of 32 frames (default: 1 2 4 8 16 32)",
    )  # fmt: skip
    parser.add_argument(
        "--questions", type=Path, metavar="FILE",
        help="question set as of streaming.evaluate, for a column of accuracy",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="ask only so many of its questions")
    parser.add_argument(
        "--shape", choices=tuple(SHAPES), help="random weights in this geometry, instead of --model"
    )
    parser.add_argument(
        "--depth", type=int, metavar="N", help="of --shape: only so many layers of both models"
    )
    add_options(parser, without=_SETTLED, helps=_HELPS)
    parsed = parser.parse_args(arguments)
    parsed.words = list(sys.argv[1:] if arguments is None else arguments)
    _check(parsed)
    return parsed


def _check(parsed: argparse.Namespace) -> None:
    """Refuse values no run can work with."""
    for name in ("max_frames", "repeats", "limit", "depth"):
        if getattr(parsed, name) is not None and getattr(parsed, name) < 1:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {getattr(parsed, name)}: must be at least 1")
    for name in ("frames", "clients"):
        if any(number < 1 for number in getattr(parsed, name) or ()):
            raise InputError(f"--{name}: must be at least 1 each")
    if not parsed.point_seconds > 0:
        raise InputError(f"--point-seconds {parsed.point_seconds:g}: must be above 0")
    if parsed.shape and parsed.model:
        raise InputError("--shape makes random weights: leave out --model")
    if parsed.depth and not parsed.shape:
        raise InputError("--depth thins --shape: give both")
    if parsed.limit and not parsed.questions:
        raise InputError("--limit is of --questions: give both")


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    from streaming.bench.benching import run

    run(arguments, output)


def frame_counts(frames: Sequence[int] | None, max_frames: int) -> tuple[int, ...]:
    """Return the numbers of frames, ascending: those given, or 8 doubled up to the most."""
    if frames:
        return tuple(sorted(set(frames)))
    counts = [min(8, max_frames)]
    while counts[-1] * 2 <= max_frames:
        counts.append(counts[-1] * 2)
    return tuple(counts)
