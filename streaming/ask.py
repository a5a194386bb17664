"""Ask questions of one clip: ``python -m streaming.ask VIDEO "question" ["another" ...]``.

The answers, and nothing else, go to stdout. Exit status: 0 answered; 1 the clip, the model or the
run failed; 2 usage; 130 interrupted, 143 terminated.
"""

import argparse
from collections.abc import Sequence
from typing import TextIO

from streaming.command import Parser, check_text, leave, run_command
from streaming.flags import add_options
from streaming.report.path import check_report_path
from workers.errors import InputError
from workers.llm.choices import check_choices


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.ask", description=__doc__, allow_abbrev=False)
    parser.add_argument("video", help="path or URI of the clip")
    parser.add_argument("questions", nargs="*", metavar="question", help="what to ask of it")
    parser.add_argument(
        "--interactive", action="store_true", help="then read more questions, one a line"
    )
    parser.add_argument(
        "--choice",
        dest="choices",
        action="append",
        default=[],
        metavar="TEXT",
        help="a text that may be the answer; give it twice or more, and the answer is one of them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a question")
    parser.add_argument("--report", metavar="FILE", help="write a page that shows what was kept")
    parser.add_argument(
        "--server", metavar="URL", help="ask a server of streaming.serve, which has the model"
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="that holds the server's key (default: MR_STREAM_API_KEY, if set)",
    )
    add_options(parser, without=("clips_in_flight",))
    parsed = parser.parse_args(arguments)
    if not parsed.questions and not parsed.interactive:
        raise InputError("no question: give one after the video, or --interactive")
    for question in parsed.questions:
        check_text(question, what="the question")
    for choice in parsed.choices:
        check_text(choice, what="--choice")
    check_choices(parsed.choices)
    if parsed.server is not None and parsed.report is not None:
        raise InputError("--report is drawn where the clip is watched: leave out --server")
    if parsed.report is not None:
        check_report_path(parsed.report, parsed.video)
    return parsed


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    if arguments.server is not None:
        from streaming.serve.asking import run
    else:
        from streaming.asking import run
    run(arguments, output)


if __name__ == "__main__":
    leave(main())
