"""Ask a source again and again while it happens: ``python -m streaming.watch SOURCE "question"``.

SOURCE is an address (rtsp, rtsps, http, https; HLS playlists among them), a video file, or - for
stdin; it is looked at --fps times (1) a second of media time. The answers, and nothing else, go to
stdout. Exit status: 0 the source is at its end; 1 it does not come, or the model or the run failed;
2 usage; 130 interrupted, 143 terminated, with what was seen on stderr.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import TextIO

from streaming.command import Parser, check_text, leave, run_command
from streaming.flags import add_options
from streaming.ranges import flag
from streaming.watch.defaults import DEFAULT_FPS, DEFAULT_WINDOW, FIXED
from streaming.watch.standing import DEFAULT_CONFIRM, DEFAULT_EVERY_SECONDS
from workers.errors import InputError
from workers.llm.choices import check_choices
from workers.video.live.address import parse_address

_POSITIVE = ("every", "speed", "silence", "give_up", "max_lag")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.watch", description=__doc__, allow_abbrev=False)
    parser.add_argument("source", help="address, path, or - for stdin")
    parser.add_argument("questions", nargs="+", metavar="question", help="what to ask of it")
    parser.add_argument(
        "--every", type=float, default=DEFAULT_EVERY_SECONDS, metavar="S",
        help="media seconds from one answer to the next (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--on-change", type=int, nargs="?", const=DEFAULT_CONFIRM, metavar="N",
        help="print an answer only when it changes, and is given N times in a row (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--choice", dest="choices", action="append", default=[], metavar="TEXT",
        help="a text that may be the answer; give it twice or more, and the answer is one of them",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object an answer")
    parser.add_argument(
        "--at", type=float, action="append", default=[], metavar="T",
        help="of a file: only answer what its stream would be answered at this time; repeatable",
    )  # fmt: skip
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--realtime", action="store_true", help="play a file at its own pace")
    pace.add_argument("--speed", type=float, metavar="X", help="play a file at X times its pace")
    parser.add_argument(
        "--window", type=int, default=DEFAULT_WINDOW, metavar="N",
        help=f"newest frames, held in full; older ones thin out (default: {DEFAULT_WINDOW})",
    )  # fmt: skip
    parser.add_argument(
        "--silence", type=float, default=15.0, metavar="S",
        help="open the source again after so long without a picture (default: 15)",
    )  # fmt: skip
    parser.add_argument(
        "--give-up", type=float, default=60.0, metavar="S",
        help="end after so long without a picture (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--max-lag", type=float, default=10.0, metavar="S",
        help="leave out groups of pictures that are decoded later than this (default: 10)",
    )  # fmt: skip
    add_options(
        parser,
        without=tuple(FIXED),
        helps={"fps": f"frames looked at a second of media time (default: {DEFAULT_FPS:g})"},
    )
    _check_words(sys.argv[1:] if arguments is None else arguments)
    parsed = parser.parse_args(arguments)
    _check(parsed)
    return parsed


def _check_words(words: Sequence[str]) -> None:
    """Refuse options of clips with an end as what they are: a nearest option is no help."""
    fixed = {flag(name) for name in FIXED}
    for word in takewhile(lambda word: word != "--", words):
        if (name := word.partition("=")[0]) in fixed:
            raise InputError(f"{name} is for clips, which have an end: leave it out of a stream")


def _check(parsed: argparse.Namespace) -> None:
    for name in _POSITIVE:
        value = getattr(parsed, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: must be a number above 0")
    for time in parsed.at:
        if not 0 <= time < math.inf:
            raise InputError(f"--at {time:g}: must be a number from 0 on")
    for question in parsed.questions:
        check_text(question, what="the question")
    for choice in parsed.choices:
        check_text(choice, what="--choice")
    check_choices(parsed.choices)
    if parsed.on_change is not None and parsed.on_change < 1:
        raise InputError(f"--on-change {parsed.on_change}: must be at least 1")
    address = parse_address(parsed.source)
    parsed.speed = 1.0 if parsed.realtime else parsed.speed or 0.0
    if address.kind != "file" and (parsed.speed or parsed.at):
        option = "--at" if parsed.at else "--realtime" if parsed.realtime else "--speed"
        raise InputError(f"{option} is for files: {address.name} has a pace of its own")


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    from streaming.watch.running import run

    run(arguments, output)


if __name__ == "__main__":
    leave(main())
