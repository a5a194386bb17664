"""What clips are like as the language stage goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Mixture = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """What clips are like and how much they are asked, from each step on.

    ``mixtures`` are the chances of every number of frames, ``dense_weights`` how much the questions
    to tokens half way up count beside the answers, ``stamp_weights`` how much all that
    guides times does: that picture tokens look at their frame's timestamp, that the last layer's
    heads would say it of them, and where these look.

    ``text_share`` of the batches of several frames are about text: a plate in every scene, and two
    scenes or more. ``timed_share`` of all have timestamps in their prompts.
    """

    mixtures: Sequence[tuple[int, Mapping[int, float]]]
    dense_weights: Sequence[tuple[int, float]] = ((0, 1.0),)
    stamp_weights: Sequence[tuple[int, float]] = ((0, 0.0),)
    tokens_per_batch: int = 6000
    plate_chance: float = 0.75
    code_chance: float = 0.25
    text_share: float = 0.0
    timed_share: float = 0.5

    def mixture(self, step: int) -> Mixture:
        """Return the chances that hold at ``step``."""
        return [mixture for start, mixture in self.mixtures if step >= start][-1]

    def dense_weight(self, step: int) -> float:
        """Return how much the questions to tokens half way up count at ``step``."""
        return [weight for start, weight in self.dense_weights if step >= start][-1]

    def stamp_weight(self, step: int) -> float:
        """Return how much knowing one's timestamp counts at ``step``."""
        return [weight for start, weight in self.stamp_weights if step >= start][-1]
