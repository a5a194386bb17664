"""What ``streaming.ask`` does once its words are read: apart from them, so that --help is quick."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm

from streaming.command import check_text, say, typed_lines
from streaming.flags import read_options
from streaming.options import Options
from streaming.pipeline import WatchedClip, ask, open_engine, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import SampledClip, sample_clip
from workers.checkpoint import EMBEDDED
from workers.errors import ContextError, InputError
from workers.run.engine import Engine
from workers.run.jobs import Progress

_THUMBNAIL_WIDTH = 448
_FALLBACK_QUESTION = "What happens in this video, and in which order? Describe it in detail."


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Watch the clip, and answer what is asked and typed."""
    options = read_options(arguments)
    sampled = _open(arguments.video, options)
    plan = plan_clip(
        sampled,
        options,
        arguments.questions or [_FALLBACK_QUESTION],
        choices=arguments.choices,
        thumbnail_width=_THUMBNAIL_WIDTH if arguments.report else 0,
    )
    if options.model.model == EMBEDDED:
        say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
    answers: list[Answer] = []
    with open_engine(options) as engine:
        with _Bars(plan.clip.num_frames) as bars:
            clip = watch(engine, plan, bars.show)
        for warning in (*plan.warnings, *clip.visual.encoded.warnings):
            say(warning)
        try:
            for question, is_typed in _questions(arguments):
                try:
                    check_text(question, what="the question")
                    answers.append(_answer(engine, clip, question, arguments, output))
                except (ContextError, InputError) as error:
                    if not is_typed:
                        raise
                    say(f"error: {error}")
        finally:
            if arguments.report and answers:
                from streaming.report.page import write_report

                write_report(arguments.report, answers)


def _open(video: str, options: Options) -> SampledClip:
    """Sample a clip, with a bar for one so long that listing its pictures takes a while."""
    with tqdm(total=100, desc="index", unit="%", delay=2, file=sys.stderr) as bar:
        return sample_clip(video, options, lambda share: bar.update(int(100 * share) - bar.n))


def _questions(arguments: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """Yield the questions given, then those typed, and which they are."""
    for question in arguments.questions:
        yield question, False
    for line in typed_lines() if arguments.interactive else ():
        yield line, True


def _answer(
    engine: Engine,
    clip: WatchedClip,
    question: str,
    arguments: argparse.Namespace,
    output: TextIO,
) -> Answer:
    """Print one answer, as text while it comes or as one JSON object."""
    blank = True
    for piece in ask(engine, clip, question, choices=arguments.choices):
        if isinstance(piece, Answer):
            print(json.dumps(piece.to_json()) if arguments.json else "", file=output, flush=True)
            say(summarize(piece))
            return piece
        if not arguments.json:
            print(piece.lstrip() if blank else piece, end="", file=output, flush=True)
            blank = blank and not piece.strip()
    raise RuntimeError("an answer ended without its record")


def summarize(answer: Answer) -> str:
    """Return the closing line of an answer."""
    stages = ", ".join(f"{stage} {value:.2f} s" for stage, value in answer.seconds.items())
    return (
        f"{answer.num_frames} frame{'s' * (answer.num_frames != 1)}, "
        f"{answer.num_unpruned_tokens:,} -> {answer.num_visual_tokens:,} visual tokens "
        f"(budget {answer.budget:,}); {stages}; {answer.elapsed_seconds:.1f} s in all"
    )


class _Bars:
    """Two progress bars on stderr: frames decoded, frames encoded and pruned."""

    def __init__(self, num_frames: int) -> None:
        self._bars = [
            tqdm(total=num_frames, desc=name, unit="frame", position=row, file=sys.stderr)
            for row, name in enumerate(("decode", "encode"))
        ]

    def show(self, progress: Progress) -> None:
        """Advance the bars."""
        self._bars[0].update(progress.num_read)
        self._bars[1].update(progress.num_encoded)

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._bars:
            bar.close()
