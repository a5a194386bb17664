"""A question that others came before: the turns of a conversation about one clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one side said."""

    role: Literal["system", "user", "assistant"]
    text: str


class Dialogue(str):
    """The last question of a conversation, and what was said before it.

    For all who count or show it it is a text like any other; the chat template puts the turns
    before it. The clip belongs to the first question, so that its frames are read once for all.
    """

    earlier: tuple[Turn, ...]

    def __new__(cls, question: str, earlier: Sequence[Turn] = ()) -> Self:
        """Make one of the last question and the turns before it, the oldest first."""
        self = super().__new__(cls, question)
        self.earlier = tuple(earlier)
        return self

    def __getnewargs__(self) -> tuple[str, tuple[Turn, ...]]:  # type: ignore[override]
        return str(self), self.earlier


def turns_of(question: str) -> tuple[Turn, ...]:
    """Return a question as the last of its turns; a plain one is a conversation of one."""
    earlier = question.earlier if isinstance(question, Dialogue) else ()
    return (*earlier, Turn(role="user", text=str(question)))


def first_question(turns: Sequence[Turn]) -> int:
    """Return the place among turns of the first that is a user's."""
    return next(place for place, turn in enumerate(turns) if turn.role == "user")


def messages_of(turns: Sequence[Turn], shown: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return turns as chat templates take them, what is shown with the first question.

    Args:
        turns: a user's last.
        shown: ``image`` or ``video`` for each placeholder.
    """
    first = first_question(turns)
    return [
        {
            "role": turn.role,
            "content": [
                *({"type": kind} for kind in (shown if place == first else ())),
                {"type": "text", "text": turn.text},
            ],
        }
        for place, turn in enumerate(turns)
    ]
