"""What ``streaming.bench`` does once its words are read: apart, so that --help is quick."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from streaming.bench.clip import draw_clip
from streaming.bench.command import DEFAULTS, frame_counts
from streaming.bench.contestants import contestants
from streaming.bench.plots import draw, import_matplotlib
from streaming.bench.random_checkpoint import write_shape
from streaming.bench.report import describe_run, write_report
from streaming.bench.run import Bench, Outcome, Plan
from streaming.bench.shapes import SHAPES
from streaming.command import say
from streaming.evaluate.questions import read_questions
from streaming.flags import change, read_options
from streaming.options import Options
from streaming.sample import sample_clip
from workers.errors import InputError

_QUESTIONS = ("what number is shown?", "what color is the ball?")
_FRAMES_PER_SECOND = 15


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Measure, write tables and pictures, print the tables."""
    import_matplotlib()
    with TemporaryDirectory(prefix="mr-stream-bench-") as name:
        folder = Path(name)
        options = _options(arguments, folder)
        taking_part = contestants(
            options,
            pruners=arguments.pruners,
            executors=arguments.executors,
            baselines=arguments.baselines,
        )
        plan = _plan(arguments, folder)
        _check_clip(plan, options)
        _make_folder(arguments.output)
        described = describe_run(options, arguments.words)

        def save(outcome: Outcome) -> None:
            write_report(arguments.output, described, outcome)

        outcome = Bench(plan, options, taking_part, save).run()
    text = write_report(arguments.output, described, outcome)
    print(text, file=output, end="", flush=True)
    draw(arguments.output, outcome, described["command"])


def _options(arguments: argparse.Namespace, folder: Path) -> Options:
    options = read_options(arguments, change(Options(), DEFAULTS, source=""))
    if arguments.shape is None:
        return options
    say(f"making random weights in the shape of {arguments.shape}")
    location, shape = folder / arguments.shape, SHAPES[arguments.shape]
    if arguments.depth is not None:
        shape = shape.thinned(arguments.depth)
    write_shape(location, shape, dtype="bfloat16")
    return change(options, {"model": str(location)}, source="")


def _plan(arguments: argparse.Namespace, folder: Path) -> Plan:
    counts = frame_counts(arguments.frames, arguments.max_frames)
    clip = arguments.clip
    if clip is None:
        clip = str(folder / "drawn.mp4")
        draw_clip(Path(clip), duration_seconds=max(60, -(-counts[-1] // _FRAMES_PER_SECOND)))
    known = (
        read_questions(arguments.questions, limit=arguments.limit) if arguments.questions else []
    )
    return Plan(
        clip=clip,
        questions=_QUESTIONS,
        frame_counts=counts,
        repeats=arguments.repeats,
        point_seconds=arguments.point_seconds,
        known=tuple(map(tuple, known)),
        levels=tuple(arguments.clients),
        pruners=tuple(arguments.pruners) if "plain-pruners" in arguments.baselines else (),
    )


def _check_clip(plan: Plan, options: Options) -> None:
    """Refuse a clip that cannot be read, or has fewer frames than are asked of it."""
    source = sample_clip(plan.clip, options).source
    if source.num_frames < plan.frame_counts[-1]:
        raise InputError(
            f"{plan.clip} has {source.num_frames:,} frames: lower --max-frames, or give --frames"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
