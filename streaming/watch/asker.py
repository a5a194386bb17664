"""Who asks the standing questions of a stream, and prints their answers."""

import argparse
import json
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TextIO

from streaming.command import say
from streaming.pipeline import WatchedClip, ahead, ask
from streaming.result import Answer
from streaming.watch.held import Held
from streaming.watch.plan import LivePlan
from streaming.watch.record import LiveAnswer, clock
from streaming.watch.standing import StandingAnswer
from workers.run.engine import Engine
from workers.video.live.events import Gap
from workers.video.live.source import LiveSource

_MOST_GAPS = 100


class Asker:
    """Asks standing questions and prints their answers.

    Args:
        engine: with workers.
        plan: of the stream.
        arguments: what is asked, and how answers are printed.
        output: where to.
    """

    def __init__(
        self, engine: Engine, plan: LivePlan, arguments: argparse.Namespace, output: TextIO
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._questions: Sequence[str] = arguments.questions
        self._choices: Sequence[str] = arguments.choices
        self._json: bool = arguments.json
        self._only_changes = arguments.on_change is not None
        self._standing = [StandingAnswer(arguments.on_change or 1) for _ in self._questions]
        self._output = output
        self._gaps: deque[Gap] = deque(maxlen=_MOST_GAPS)
        self.num_answers = 0

    def note(self, gap: Gap) -> None:
        """Tell of a gap, now and with the next answers."""
        self._gaps.append(gap)
        say(_gap_words(gap))

    def ask(
        self,
        watched: WatchedClip,
        held: Held,
        media_seconds: float,
        source: LiveSource | None = None,
    ) -> None:
        """Ask all questions about the stream as it is at a media time."""
        asked = (
            ask(self._engine, watched, question, choices=self._choices)
            for question in self._questions
        )
        printed = False
        for standing, pieces in zip(self._standing, ahead(asked), strict=True):
            answer = _whole(pieces)
            self.num_answers += 1
            changed = standing.hear(answer.answer)
            if changed or not self._only_changes:
                printed = True
                self._print(
                    LiveAnswer(
                        answer=answer,
                        changed=changed,
                        media_seconds=media_seconds,
                        wall_time=datetime.now().astimezone(),
                        lag_seconds=None if source is None else source.lag_seconds(media_seconds),
                        gaps=tuple(self._gaps),
                        num_seen_frames=held.num_frames,
                        num_dropped_frames=source.num_dropped if source else 0,
                        num_held_frames=len(held.frames),
                        num_held_tokens=held.num_tokens,
                        max_held_tokens=self._plan.max_held_tokens,
                    )
                )
        if printed:
            self._gaps.clear()

    def _print(self, answer: LiveAnswer) -> None:
        if self._json:
            line = json.dumps(answer.to_json())
        else:
            question = f"{answer.answer.question} " if len(self._questions) > 1 else ""
            line = f"[{clock(answer.media_seconds)}] {question}{answer.answer.answer.strip()}"
        print(line, file=self._output, flush=True)


def _whole(pieces: Iterator[str | Answer]) -> Answer:
    """Return the last piece; read to the end, so that nothing is left to be closed later."""
    (answer,) = [piece for piece in pieces if isinstance(piece, Answer)]
    return answer


def _gap_words(gap: Gap) -> str:
    start, end = clock(gap.start_seconds), clock(gap.end_seconds)
    if gap.start_seconds == gap.end_seconds:
        return f"nothing is missing at {start}, though {gap.reason}"
    return f"missing from {start} to {end}: {gap.reason}"
