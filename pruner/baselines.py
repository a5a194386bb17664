"""Choices that look at no feature: at random, and evenly over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruner.layout import FrameLayout, frame_layout
from pruner.nodes import mean_norms, token_norms
from pruner.order import keep_order, proportional_share
from pruner.ranking import Ranking, Task


def rank_random(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank the tokens of F frames at random, see `random_order`; only their norms are computed.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: its frame numbers and its seed are read.

    Returns:
        The ranking, on the device of the features.

    Raises:
        ValueError: shapes that do not fit, or features not finite.
    """
    order = random_order(frame_layout(base, grid), task.frame_indices, task.seed)
    return _unscored(order, base, grid)


def rank_uniform(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank the tokens of F frames evenly over the picture, see `uniform_order`.

    Arguments, result and errors are those of `rank_random`; nothing of the task is read.
    """
    return _unscored(uniform_order(frame_layout(base, grid), len(base)), base, grid)


def rank_none(base: Tensor, grid: Tensor) -> Ranking:
    """Leave the tokens of F frames in source order, for what is chosen later."""
    order = torch.arange(frame_layout(base, grid).num_tokens).expand(len(base), -1)
    return _unscored(order, base, grid)


def random_order(layout: FrameLayout, frame_indices: Sequence[int], seed: int) -> Tensor:
    """Order in which a growing share keeps the tokens of frames, drawn without replacement.

    A frame's draw depends only on the seed and its own number, not on the frames beside it or on
    the worker that draws. Both resolutions keep the same fraction; newlines as in `keep_order`.

    Args:
        layout: of all F frames.
        frame_indices: F numbers, at least 0.
        seed: at least 0.

    Returns:
        (F, num_tokens) int64 flat indices, a permutation of all tokens.
    """
    num_content = layout.num_base + layout.num_grid
    draws = torch.stack([_draw(num_content, seed, frame) for frame in frame_indices])
    base, grid = draws.split([layout.num_base, layout.num_grid], dim=1)
    return keep_order(base, grid, proportional_share(layout, len(draws)), layout)


def uniform_order(layout: FrameLayout, num_frames: int) -> Tensor:
    """Order in which a growing share keeps tokens as evenly spread over the picture as it can.

    The order of thresholds in ordered dithering (Bayer, 1973): after 4^n tokens of a square there
    is one in each cell of a 2^n x 2^n raster. Both resolutions keep the same fraction; newlines as
    in `keep_order`.

    Args:
        layout: of all frames; the base tile is square.
        num_frames: F.

    Returns:
        (F, num_tokens) int64 flat indices, a permutation, the same for each frame.

    Raises:
        ValueError: the base tile is no square.
    """
    side = round(layout.num_base**0.5)
    if side * side != layout.num_base:
        raise ValueError(f"the base tile is a square: {layout.num_base = }")
    base = _evenness(side, side).expand(num_frames, -1)
    grid = _evenness(layout.rows, layout.columns).expand(num_frames, -1)
    return keep_order(base, grid, proportional_share(layout, num_frames), layout)


def _unscored(order: Tensor, base: Tensor, grid: Tensor) -> Ranking:
    """Return an order that no feature decides, with the informativeness of the frames."""
    norms = token_norms(base), token_norms(grid.flatten(1, 2))
    return Ranking(order=order.to(base.device), informativeness=mean_norms(*norms))


def _draw(num_tokens: int, seed: int, frame_index: int) -> Tensor:
    # splitmix-like spreading: neighbouring seeds and frames start unrelated generators.
    mixed = ((seed + 1) * 0x9E3779B97F4A7C15 + (frame_index + 1) * 0xBF58476D1CE4E5B9) % 2**63
    generator = torch.Generator().manual_seed(mixed)
    return torch.randperm(num_tokens, generator=generator).float() + 1.0


def _evenness(rows: int, columns: int) -> Tensor:
    """Return (rows * columns,) float32 in (0, 1]: the later in Bayer's order, the smaller."""
    levels = max(rows, columns, 1).bit_length()
    y, x = torch.arange(rows)[:, None], torch.arange(columns)[None]
    order = torch.zeros(rows, columns, dtype=torch.int64)
    for level in range(levels):  # the finest bits of the place decide last
        across, down = (x >> level) & 1, (y >> level) & 1
        order = order * 4 + 2 * (across ^ down) + down
    evenness: Tensor = 1.0 - order.flatten().float() / 4**levels
    return evenness
