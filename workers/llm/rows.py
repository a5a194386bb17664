"""Questions about one prefix as rows: its keys and values are held once, each row's own behind it.

A forward pass takes the next tokens of several rows as one sequence. Linear layers work on all of
them at once; attention takes one row after another, each over exactly the keys and values that it
would see alone. So there is no padding, and no mask by which a row could tell what is beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One question: its place in the buffers, and the tokens that were read behind the prefix.

    ``kept`` are the places of the prefix (ascending, int64) that layers from some on hold of it,
    None where all do, or before the first reading. They are chosen by what the last of the first
    ``num_question`` tokens attends to, with 0 the last that is read at first. ``bias`` (kept,) is
    what is added to their logits there, if anything is.
    """

    slot: int
    length: int = 0
    num_question: int = 0
    kept: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Tokens that a row is to read next: ``num_tokens`` from place ``first`` of the pass on.

    Behind the prefix the row holds ``start`` tokens before them. ``observe`` is told the start of
    some of them, their queries (1, heads, tokens, size), the keys that they see, the mask without
    bias and the scaling. ``places`` (length,) are where the row's tokens stand in its whole
    sequence, if that has gaps. ``bias`` is what is added to the logits of its first tokens as keys,
    float32.
    """

    slot: int
    first: int
    num_tokens: int
    start: int
    observe: Callable[..., None] | None = None
    places: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    @property
    def end(self) -> int:
        """Place in the pass behind the last of them."""
        return self.first + self.num_tokens

    @property
    def length(self) -> int:
        """Tokens of the row once they are read."""
        return self.start + self.num_tokens

    def parts(self, num_tokens: int) -> list["Reading"]:
        """Cut it into readings of so many tokens, one after another."""
        return [
            replace(
                self,
                first=self.first + skipped,
                start=self.start + skipped,
                num_tokens=min(num_tokens, self.num_tokens - skipped),
            )
            for skipped in range(0, self.num_tokens, num_tokens)
        ]


def make_readings(
    rows: Sequence[Row],
    starts: Sequence[int],
    counts: Sequence[int],
    bias: torch.Tensor | None = None,
) -> list[Reading]:
    """Return what each row reads in a pass over so many tokens of each, one behind another."""
    ends = accumulate(counts)
    return [
        Reading(slot=row.slot, first=end - count, num_tokens=count, start=start, bias=bias)
        for row, start, count, end in zip(rows, starts, counts, ends, strict=True)
    ]


def read_prefix(bias: torch.Tensor) -> Reading:
    """Return the prefix as a reading, its tokens weighing by ``bias`` (length,)."""
    return Reading(slot=0, first=0, num_tokens=len(bias), start=0, bias=bias)
