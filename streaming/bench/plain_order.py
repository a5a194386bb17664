"""From an order of tokens to the tokens kept: what plain methods share."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pruner import FrameLayout, rank_tokens

Content = list[tuple[int, int]]
"""Content tokens in keeping order: (frame, index among its base tokens, then its grid tokens)."""


def keep(order: Content, layout: FrameLayout, budget: int, num_frames: int = 1) -> list[Tensor]:
    """Take tokens in order, and the newline of a row after its first, until the budget is spent."""
    kept: list[list[int]] = [[] for _ in range(num_frames)]
    for frame, flat in _with_newlines(order, layout):
        if budget == 0:
            break
        kept[frame].append(flat)
        budget -= 1
    return [torch.tensor(sorted(own), dtype=torch.int64) for own in kept]


def _with_newlines(order: Content, layout: FrameLayout) -> Iterator[tuple[int, int]]:
    """Frame and flat index of each token in turn, newlines among them."""
    opened: set[tuple[int, int]] = set()
    for frame, index in order:
        if index < layout.num_base:
            yield frame, index
            continue
        row, column = divmod(index - layout.num_base, layout.columns)
        start = layout.num_base + row * (layout.columns + 1)
        yield frame, start + column
        if (frame, row) not in opened:
            opened.add((frame, row))
            yield frame, start + layout.columns


def ranked(scores: Tensor) -> list[int]:
    """Indices by descending score (N,), ties by index."""
    ranks: list[int] = rank_tokens(scores[None])[0].tolist()
    return ranks
