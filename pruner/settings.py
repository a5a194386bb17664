"""Parameters of the token graph: plain numbers, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_TEMPERATURE = 0.001
"""Below it logits and cosines divided by the temperature leave float16, at last float32."""
MOST_TEMPERATURE = 100
"""Far above it what marks a pair as no neighbours leaves float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parameters of the scores; the defaults are MR-Pruner's published constants.

    Similarities of 0 or less are refused on purpose: they would make every zero vector a neighbour
    of every token.

    Attributes:
        similarity: cosine from which two tokens of one resolution are neighbours, > 0.
        cross_similarity: cosine from which a base token and a pruned grid token are, > 0.
        temperature: of both softmaxes, 0.001 to 100.
        beta: weight of the cross-resolution term, at least 0.
        num_steps: n, propagation steps inside a resolution, at least 0.
        cross_resolution: False leaves the cross-resolution term out.
        half_precision_degree: count neighbours as a float16 run would, P > 2^-25.
    """

    similarity: float = 0.5
    cross_similarity: float = 0.5
    temperature: float = 0.03
    beta: float = 0.5
    num_steps: int = 1
    cross_resolution: bool = True
    half_precision_degree: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters out of range, NaN included, before any work is done."""
        if not (self.similarity > 0 and self.cross_similarity > 0):
            raise ValueError(
                f"neighbours have a positive cosine: {self.similarity = }, "
                f"{self.cross_similarity = }"
            )
        if not LEAST_TEMPERATURE <= self.temperature <= MOST_TEMPERATURE:
            raise ValueError(
                f"a softmax has a temperature of {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}: "
                f"{self.temperature = }"
            )
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"the cross-resolution weight is at least 0: {self.beta = }")
        if self.num_steps < 0:
            raise ValueError(f"propagation takes at least 0 steps: {self.num_steps = }")


PUBLISHED = Settings()
"""The constants of MR-Pruner's published code."""
