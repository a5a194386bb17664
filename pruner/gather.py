"""The features of ranked tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.layout import frame_layout


@torch.no_grad()
def gather_tokens(base: Tensor, grid: Tensor, newline: Tensor, order: Tensor) -> Tensor:
    """Gather tokens of F frames by flat index, without laying the whole frames out flat.

    Args:
        base: (F, N1, D) base tokens.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        newline: (D,), the newline token.
        order: (F, k) int64 flat indices, such as the first k of a ranking.

    Returns:
        (F, k, D), the dtype of the base; row (f, i) is token `order[f, i]` of frame f.

    Raises:
        ValueError: shapes that do not fit, or indices out of range.

    Cost: O(F k D); memory beyond the result: one copy of the tokens of one resolution.
    """
    layout, num_frames = frame_layout(base, grid), len(base)
    shape, expected = tuple(newline.shape), tuple(base.shape[2:])
    if shape != expected:
        raise ValueError(f"the newline is one token: {shape = }, {expected = }")
    if order.ndim != 2 or len(order) != num_frames:
        raise ValueError(f"a row of indices for each frame: {order.shape = }, {num_frames = }")
    if order.numel():
        lowest, highest = torch.stack(order.aminmax()).tolist()
        if lowest < 0 or highest >= layout.num_tokens:
            raise ValueError(f"indices lie below {layout.num_tokens = }: {lowest = }, {highest = }")
    frame = torch.arange(num_frames, device=order.device)[:, None].expand_as(order)
    row, is_newline = layout.row_of(order), layout.is_newline(order)
    tokens = base.new_empty(*order.shape, base.shape[2])

    places = (row < 0).nonzero(as_tuple=True)
    tokens[places] = base[frame[places], order[places]]

    places = ((row >= 0) & ~is_newline).nonzero(as_tuple=True)
    column = (order - layout.num_base) % (layout.columns + 1)
    tokens[places] = grid[frame[places], row[places], column[places]]

    tokens[is_newline] = newline.to(tokens)
    return tokens
