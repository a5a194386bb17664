"""How an answer is chosen, and what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.arrays import Int64Array


MOST_TOGETHER = 8
"""Questions about one clip that a language model answers at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How an answer is chosen: greedily at ``temperature`` 0, else drawn with ``seed``.

    ``json_schema`` is the text of a JSON schema that the answer follows, None where it is free.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    json_schema: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedAnswer:
    """The end of an answer: its whole text and token ids.

    ``num_text_tokens`` counts all of the prompt that is no visual token, time marks included.
    ``keep_indices`` are each frame's where the choice was made for this question, else None.
    ``is_cut`` tells that it ended for its length.
    """

    text: str
    token_ids: tuple[int, ...]
    num_text_tokens: int
    seconds: Mapping[str, float]
    keep_indices: "tuple[Int64Array, ...] | None" = None
    is_cut: bool = False
