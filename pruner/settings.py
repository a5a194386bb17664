"""Parameters of the token graph; plain numbers, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parameters of the scores; the defaults are the published constants.

    Attributes:
        similarity: cosine from which two tokens of one resolution are neighbours, > 0.
        cross_similarity: the same between a base token and a pruned grid token, > 0.
        temperature: of both softmaxes, > 0.
        beta: weight of the cross-resolution term, at least 0.
        num_steps: propagation steps inside a resolution, at least 0.
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
        """Refuse parameters out of their range before any work is done."""
        check_graph(similarity=self.similarity, temperature=self.temperature)
        check_graph(similarity=self.cross_similarity, temperature=self.temperature)
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"the cross-resolution weight is at least 0: {self.beta = }")
        if self.num_steps < 0:
            raise ValueError(f"propagation takes at least 0 steps: {self.num_steps = }")


def check_graph(*, similarity: float, temperature: float) -> None:
    """Refuse parameters for which the graph is not defined.

    Similarity 0 or less is refused on purpose: it would tie every zero vector to every token.

    Raises:
        ValueError: a parameter that is not above 0 (NaN included).
    """
    if not similarity > 0:
        raise ValueError(f"neighbours need a positive cosine: {similarity = }")
    if not temperature > 0:
        raise ValueError(f"the softmax needs a positive temperature: {temperature = }")
