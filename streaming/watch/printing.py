"""What ``streaming.watch`` prints: answers on stdout, what becomes of the source on stderr."""

import argparse
import json
from typing import TextIO

from streaming.command import say
from streaming.watch.record import LiveAnswer, clock
from workers.video.live.events import Away, Event, Gap


class Printer:
    """Prints what is told of a stream.

    Args:
        arguments: of the command.
        output: where answers go.
    """

    def __init__(self, arguments: argparse.Namespace, output: TextIO) -> None:
        self._json: bool = arguments.json
        self._names_questions = len(arguments.questions) > 1
        self._output = output

    def answer(self, answer: LiveAnswer) -> None:
        """Print an answer, as one line."""
        if self._json:
            line = json.dumps(answer.to_json())
        else:
            question = f"{answer.answer.question} " if self._names_questions else ""
            line = f"[{clock(answer.media_seconds)}] {question}{answer.answer.answer.strip()}"
        print(line, file=self._output, flush=True)

    def event(self, event: Event) -> None:
        """Say what is amiss with the source."""
        if isinstance(event, Gap):
            say(_gap_words(event))
        elif isinstance(event, Away):
            say(f"{event.reason}; opened again in {event.pause_seconds:.1f} s")


def _gap_words(gap: Gap) -> str:
    start, end = clock(gap.start_seconds), clock(gap.end_seconds)
    if gap.start_seconds == gap.end_seconds:
        return f"nothing is missing at {start}, though {gap.reason}"
    return f"missing from {start} to {end}: {gap.reason}"
