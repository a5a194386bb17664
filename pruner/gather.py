"""The features of ranked tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.layout import FrameLayout, frame_layout


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

    Cost: O(F k D); memory beyond the result: (k, D) of one frame. Waits for the device once, for
    the check of the indices.
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
    tokens = base.new_empty(*order.shape, base.shape[2])
    for frame in range(num_frames):
        _gather(base[frame], grid[frame], newline, order[frame], layout, out=tokens[frame])
    return tokens


def _gather(
    base: Tensor, grid: Tensor, newline: Tensor, order: Tensor, layout: FrameLayout, *, out: Tensor
) -> None:
    """Write the tokens of one frame (N1, D), (rows, columns, D) in order to (k, D)."""
    row = layout.row_of(order)
    torch.index_select(base, 0, order.masked_fill(row >= 0, 0), out=out)
    if layout.rows == 0:
        return
    column = (order - layout.num_base) % (layout.columns + 1)
    is_newline = layout.is_newline(order)
    picked = grid[row.clamp_min(0), column.masked_fill(is_newline | (row < 0), 0)]
    torch.where((row < 0)[:, None], out, picked, out=out)
    torch.where(is_newline[:, None], newline.to(out), out, out=out)
