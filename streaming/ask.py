"""Ask questions of one clip: ``python -m streaming.ask VIDEO "question" ["another" ...]``.

The answers, and nothing else, go to stdout. Exit status: 0 answered; 1 the clip, the model or the
run failed; 2 usage; 130 interrupted, 143 terminated.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from tqdm import tqdm

from streaming.config import Options, add_flags, read_options, suggest
from streaming.pipeline import WatchedClip, ask, open_pool, watch
from streaming.plan import open_source
from streaming.result import Answer
from workers.checkpoint import EMBEDDED
from workers.errors import InputError, StreamError
from workers.pool import Pool, Progress

_THUMBNAIL_WIDTH = 448
_FALLBACK_QUESTION = "What happens in this video, and in which order? Describe it in detail."


class Parser(argparse.ArgumentParser):
    """Names the nearest valid option, and says so in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        unknown = message.removeprefix("unrecognized arguments: ").split()
        options = [name for action in self._actions for name in action.option_strings]
        hint = suggest(unknown[0].split("=")[0], options) if unknown else ""
        raise InputError(message + (hint if message.startswith("unrecognized") else ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    terminated: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        terminated.append(number)
        raise KeyboardInterrupt  # the one exception that comes through Ray as it is

    signal.signal(signal.SIGTERM, terminate)
    output = sys.stdout
    try:
        parsed = _parse(arguments)
        with redirect_stdout(sys.stderr):  # whatever a library prints is no answer
            _run(parsed, output)
        output.flush()
    except InputError as error:
        return _fail(str(error), 2)
    except StreamError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        if terminated:
            return _fail("terminated", 128 + terminated[0])
        return _fail("interrupted", 130)
    except BrokenPipeError:  # whoever read the answers has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return 1
    return 0


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
        _say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
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
            _say(warning)
        for question in _questions(arguments):
            answer = _answer(pool, clip, options, question, output, as_json=arguments.json)
            answers.append(answer)
            if arguments.report:
                from streaming.report import write_report

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
            _say(summarize(piece))
            return piece
        if not as_json:
            print(piece.lstrip() if blank else piece, end="", file=output, flush=True)
            blank = blank and not piece.strip()
    raise RuntimeError("an answer ended without its record")


def summarize(answer: Answer) -> str:
    """Return the closing line of an answer."""
    stages = ", ".join(f"{stage} {value:.2f} s" for stage, value in answer.seconds.items())
    return (
        f"{answer.num_frames} frames, {answer.num_unpruned_tokens:,} -> "
        f"{answer.num_visual_tokens:,} visual tokens (budget {answer.budget:,}); {stages}; "
        f"{answer.elapsed_seconds:.1f} s in all"
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, status: int) -> int:
    _say(f"error: {' '.join(text.split())}")
    return status


if __name__ == "__main__":
    status = main()
    if status >= 128:  # Ray interrupted while it starts can crash the interpreter's way out
        os._exit(status)
    sys.exit(status)
