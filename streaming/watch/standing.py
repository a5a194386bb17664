"""A standing question: what is asked again and again, and when its answer has changed."""

from dataclasses import dataclass

DEFAULT_EVERY_SECONDS = 10.0
DEFAULT_CONFIRM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingQuestion:
    """What is asked of a stream every so many seconds of media time.

    With ``choices``, two or more, the answer is one of them. With ``confirm`` an answer is told
    when it is another one, given so many times in a row; with None every answer is.
    """

    text: str
    choices: tuple[str, ...] = ()
    every_seconds: float = DEFAULT_EVERY_SECONDS
    confirm: int | None = None


class StandingAnswer:
    """Tells a change of the answer from a slip of it.

    Args:
        confirm: how often in a row a new answer must be given to count.
    """

    def __init__(self, confirm: int = 1) -> None:
        self._confirm = confirm
        self._heard: str | None = None
        self._times = 0
        self.settled: str | None = None
        """The answer that holds, None before any does."""

    def hear(self, answer: str) -> bool:
        """Take the next answer; return whether another one holds from now on, or the first."""
        text = answer.strip()
        self._times = self._times + 1 if text == self._heard else 1
        self._heard = text
        if self._times < self._confirm or text == self.settled:
            return False
        self.settled = text
        return True
