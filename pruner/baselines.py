"""Choices that look at no feature: at random, and evenly over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruner.gprune import proportional_share
from pruner.layout import FrameLayout
from pruner.order import buying_order


def random_order(layout: FrameLayout, frame_indices: Sequence[int], seed: int) -> Tensor:
    """Order in which a growing share keeps the tokens of frames, drawn without replacement.

    A frame's draw depends on the seed and its own number only, so neither on the frames beside it
    nor on who draws. Both resolutions keep the same fraction; newlines as in `buying_order`.

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
    return buying_order(base, grid, proportional_share(layout, len(draws)), layout)


def uniform_order(layout: FrameLayout, num_frames: int) -> Tensor:
    """Order in which a growing share keeps tokens as evenly spread over the picture as it can.

    The order of thresholds in ordered dithering (Bayer, 1973): after 4^n tokens of a square there
    is one in each cell of a 2^n x 2^n raster. Both resolutions keep the same fraction; newlines as
    in `buying_order`.

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
    return buying_order(base, grid, proportional_share(layout, num_frames), layout)


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
