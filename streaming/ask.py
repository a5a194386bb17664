"""Ask questions of one clip: ``python -m streaming.ask VIDEO "question" ["another" ...]``.

The answers, and nothing else, go to stdout. Exit status: 0 answered; 1 the clip, the model or the
run failed; 2 usage; 130 interrupted, 143 terminated.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from streaming.command import Parser, leave, run_command, say
from streaming.config import Options, add_flags, read_options
from streaming.pipeline import WatchedClip, ask, open_pool, watch
from streaming.plan import open_source
from streaming.result import Answer
from workers.checkpoint import EMBEDDED
from workers.errors import InputError
from workers.run.pool import Pool, Progress

_THUMBNAIL_WIDTH = 448
_FALLBACK_QUESTION = "What happens in this video, and in which order? Describe it in detail."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.ask", description=__doc__, allow_abbrev=False)
    parser.add_argument("video", help="path of the clip")
    parser.add_argument("questions", nargs="*", metavar="question", help="what to ask of it")
    parser.add_argument(
        "--interactive", action="store_true", help="then read more questions, one a line"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a question")
    parser.add_argument("--report", metavar="FILE", help="write a page that shows what was kept")
    add_flags(parser)
    parsed = parser.parse_args(arguments)
    if not parsed.questions and not parsed.interactive:
        raise InputError("no question: give one after the video, or --interactive")
    if not all(question.strip() for question in parsed.questions):
        raise InputError("the question is empty")
    if parsed.report and not Path(parsed.report).absolute().parent.is_dir():
        raise InputError(f"--report {parsed.report}: its folder does not exist")
    return parsed


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    options = read_options(arguments)
    started = time.perf_counter()
    source = open_source(arguments.video, options)
    if options.model == EMBEDDED:
        say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
    answers = []
    with open_pool(options) as pool, _Bars() as bars:
        clip = watch(
            pool,
            source,
            options,
            arguments.questions or [_FALLBACK_QUESTION],
            started=started,
            show=bars.show,
            thumbnail_width=_THUMBNAIL_WIDTH if arguments.report else 0,
        )
        bars.close()
        for warning in clip.warnings:
            say(warning)
        for question in _questions(arguments):
            answer = _answer(pool, clip, options, question, output, as_json=arguments.json)
            answers.append(answer)
            if arguments.report:
                from streaming.report.page import write_report

                write_report(arguments.report, answers)


def _questions(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the questions given, then those typed."""
    yield from arguments.questions
    while arguments.interactive:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(
    pool: Pool, clip: WatchedClip, options: Options, question: str, output: TextIO, *, as_json: bool
) -> Answer:
    """Print one answer, as text while it comes or as one JSON object."""
    blank = True
    for piece in ask(pool, clip, options, question):
        if isinstance(piece, Answer):
            print(json.dumps(piece.to_json()) if as_json else "", file=output, flush=True)
            say(summarize(piece))
            return piece
        if not as_json:
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

    def __init__(self) -> None:
        self._bars: list[tqdm] = []  # type: ignore[type-arg]

    def show(self, progress: Progress, num_frames: int) -> None:
        """Advance the bars, making them at the first call."""
        if not self._bars:
            self._bars = [
                tqdm(total=num_frames, desc=name, unit="frame", position=row, file=sys.stderr)
                for row, name in enumerate(("decode", "encode"))
            ]
        self._bars[0].update(progress.num_decoded)
        self._bars[1].update(progress.num_encoded)

    def close(self) -> None:
        """Leave the bars as they stand."""
        for bar in self._bars:
            bar.close()
        self._bars = []

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


if __name__ == "__main__":
    leave(main())
