"""Newline tokens in the order of a frame's tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.layout import FrameLayout


def first_of_rows(grid_ranks: Tensor, layout: FrameLayout) -> Tensor:
    """Least rank in each grid row, (..., rows * columns) -> (..., rows)."""
    by_row: Tensor = grid_ranks.unflatten(-1, (layout.rows, max(layout.columns, 1)))
    return by_row.amin(dim=-1)


def content_places(starts_row: Tensor) -> Tensor:
    """Where each content token stands once a newline follows the first token of each row.

    Args:
        starts_row: (F, N) bool, whether content token n of the order is the first of its row.

    Returns:
        (F, N) int64, ascending.
    """
    content = torch.arange(starts_row.shape[1], device=starts_row.device)
    return content + starts_row.cumsum(dim=1) - starts_row.long()


def insert_newlines(
    tokens: Tensor, places: Tensor, starts_row: Tensor, layout: FrameLayout
) -> Tensor:
    """Write content tokens to their places, and newlines behind the first token of each row.

    Args:
        tokens: (F, K N) int64 flat indices of the content tokens of K frames, plus `num_tokens` for
            each frame before in the row.
        places: (F, K N), from `content_places`.
        starts_row: (F, K N) bool, as there.
        layout: the layout of all frames.

    Returns:
        (F, K num_tokens) int64, a permutation of all tokens.
    """
    num_frames = tokens.shape[1] // (layout.num_base + layout.num_grid)
    length = num_frames * layout.num_tokens
    order = tokens.new_empty(tokens.shape[0], length + 1)
    order.scatter_(1, places, tokens)
    flat = tokens % layout.num_tokens
    newline = layout.num_base + (layout.row_of(flat) + 1) * (layout.columns + 1) - 1
    after = torch.where(starts_row, places + 1, length)
    # Tokens without a newline behind them write the spare column.
    order.scatter_(1, after, tokens - flat + newline)
    return order[:, :-1]


def newlines_last(order: Tensor, layout: FrameLayout) -> Tensor:
    """Put newlines behind all other tokens of an order (F, num_tokens), which stay as they are.

    A variant of this project: a small share then keeps content only. The cross-resolution term of
    MR-Pruner still takes for pruned what `pruner.order.keep_order` would leave out.
    """
    behind = layout.is_newline(order).to(torch.uint8)
    return order.gather(1, behind.argsort(dim=1, stable=True))
