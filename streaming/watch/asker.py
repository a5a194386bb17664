"""Who asks the standing questions of a stream, and tells their answers."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NoReturn

from streaming.pipeline import WatchedClip, ahead, ask
from streaming.result import Answer
from streaming.watch.held import Held
from streaming.watch.plan import LivePlan
from streaming.watch.record import LiveAnswer
from streaming.watch.standing import StandingAnswer, StandingQuestion
from workers.errors import StreamError
from workers.run.engine import Engine
from workers.video.live.events import Gap
from workers.video.live.source import LiveSource

MOST_GAPS = 100
"""That are told with an answer, or of a stream: the last ones."""


def _never_miss(error: StreamError, media_seconds: float, num_in_a_row: int) -> NoReturn:
    raise error


class Asker:
    """Asks standing questions together, and tells the answers that are to be told.

    Args:
        engine: with workers.
        plan: of the stream.
        questions: that are asked at the same times.
        tell: told each answer, unless only changes are wanted and it is none.
        check: called at each piece of an answer, and now and then while none comes; raises to ask
            no further.
        miss: told of an error that left a time without answers, the media time, and how many there
            are of these in a row; raises where that is not to be gone on from.
    """

    def __init__(
        self,
        engine: Engine,
        plan: LivePlan,
        questions: Sequence[StandingQuestion],
        tell: Callable[[LiveAnswer], None],
        check: Callable[[], object] | None = None,
        miss: Callable[[StreamError, float, int], object] = _never_miss,
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._questions = questions
        self._tell = tell
        self._check = check
        self._miss = miss
        self._num_missed = 0
        self._standing = [StandingAnswer(each.confirm or 1) for each in questions]
        self._gaps: deque[Gap] = deque(maxlen=MOST_GAPS)
        self.num_answers = 0

    def note(self, gap: Gap) -> None:
        """Tell of a gap with the next answers."""
        self._gaps.append(gap)

    def miss(self, error: StreamError, media_seconds: float) -> None:
        """Hear that what was due at a media time could not be asked, or not be answered.

        Raises:
            StreamError: it, where it ends the stream.
        """
        self._num_missed += 1
        self._miss(error, media_seconds, self._num_missed)

    def ask(
        self,
        watched: WatchedClip,
        held: Held,
        media_seconds: float,
        source: LiveSource | None = None,
    ) -> None:
        """Ask all questions about the stream as it is at a media time."""
        asked = (
            ask(self._engine, watched, each.text, choices=each.choices, check=self._check)
            for each in self._questions
        )
        told = False
        for question, standing, pieces in zip(
            self._questions, self._standing, ahead(asked), strict=True
        ):
            answer = _whole(pieces)
            self.num_answers += 1
            changed = standing.hear(answer.answer)
            if changed or question.confirm is None:
                told = True
                self._tell(
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
        self._num_missed = 0
        if told:
            self._gaps.clear()


def _whole(pieces: Iterator[str | Answer]) -> Answer:
    """Return the last piece; read to the end, so that nothing is left to be closed later."""
    (answer,) = [piece for piece in pieces if isinstance(piece, Answer)]
    return answer
