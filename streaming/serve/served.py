"""An answer as clients get it: without names of this machine, with what they may ask beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from streaming.result import Answer, BankUse, seconds_of_a_question
from streaming.serve.evidence import Picture
from streaming.serve.media import Located


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """An answer, and whether its clip was warm when it was asked for."""

    answer: Answer
    warm: bool
    pictures: Mapping[int, Picture]
    """Of its frames, where it is asked for evidence."""
    reached_seconds: float | None = None
    """Of a stream: the media time that it is about."""

    @property
    def num_cached_tokens(self) -> int:
        """Visual tokens of a clip that was not encoded for this answer."""
        bank = self.answer.bank
        return self.answer.num_visual_tokens if bank is not None and bank.hit else 0


def as_served(
    answer: Answer, located: Located, model: str, budget: int, *, warm: bool, seconds: float
) -> Answer:
    """Return an answer without names of this machine; of a warm clip without its own seconds.

    Args:
        answer: of the pipeline.
        located: its clip.
        model: as clients call it.
        budget: that the clip is encoded for.
        warm: whether it was before.
        seconds: since the question came.
    """
    return replace(
        answer,
        video=located.name,
        model=model,
        seconds=seconds_of_a_question(answer.seconds) if warm else answer.seconds,
        elapsed_seconds=seconds,
        warnings=tuple(located.shown(text) for text in answer.warnings),
        bank=answer.bank or BankUse(hit=warm, made_for_budget=budget),
    )
