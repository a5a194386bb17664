"""G-Prune (AAAI 2025, arXiv 2501.02268): graph-based pruning, each resolution for itself."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.graph import propagate
from pruner.layout import FrameLayout
from pruner.nodes import make_nodes
from pruner.order import buying_order, rank_tokens
from pruner.scores import frame_layout
from pruner.settings import Settings


def gprune_order(base: Tensor, grid: Tensor, settings: Settings) -> Tensor:
    """Order in which a growing share keeps the tokens of F frames.

    G-Prune's score (w P^n) / d in each resolution, which both give the same fraction of their
    content tokens. Departure, the same for every method here: a newline is bought with the first
    token of its row, see `buying_order`; the published code keeps all of them on top.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        settings: of the graph; those across resolutions play no part.

    Returns:
        (F, num_tokens) int64 flat indices, a permutation of all tokens.

    Raises:
        ValueError: shapes that do not fit, or features not finite.

    Cost: O(F (N1^2 + N2^2) (D + n)).
    """
    layout = frame_layout(base, grid)
    base_scores, grid_scores = _scores(base, grid, settings, reference=False)
    return buying_order(base_scores, grid_scores, proportional_share(layout, len(base)), layout)


def gprune(
    base: Tensor,
    grid: Tensor,
    *,
    keep_ratio: float = 0.5,
    similarity: float = 0.5,
    temperature: float = 0.03,
    num_steps: int = 5,
    half_precision_degree: bool = False,
) -> list[Tensor]:
    """Choose the tokens of F frames as the published code does, each frame for itself.

    int(keep_ratio * N1) base and int(keep_ratio * rows * columns) grid tokens of the best scores,
    and every newline on top. The only departure: ties go to the lower index.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines.
        keep_ratio: fraction kept of each resolution, in (0, 1].
        similarity: see `Settings`, as all that follow.
        temperature: see `Settings`.
        num_steps: see `Settings`.
        half_precision_degree: see `Settings`.

    Returns:
        F tensors `keep_indices`: int64 flat indices, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, parameters out of range, features not finite.
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"the fraction kept lies in (0, 1]: {keep_ratio = }")
    settings = Settings(
        similarity=similarity,
        temperature=temperature,
        num_steps=num_steps,
        half_precision_degree=half_precision_degree,
    )
    layout = frame_layout(base, grid)
    base_scores, grid_scores = _scores(base, grid, settings, reference=True)
    num_base = int(keep_ratio * layout.num_base)
    num_grid = int(keep_ratio * layout.rows * layout.columns)
    newlines, flat = layout.newline_indices(), layout.grid_indices()
    kept_base = rank_tokens(base_scores)[:, :num_base].cpu()
    kept_grid = flat[rank_tokens(grid_scores)[:, :num_grid].cpu()]
    every = newlines.expand(len(base), -1)
    return list(torch.cat((kept_base, kept_grid, every), dim=1).sort(dim=1).values)


def proportional_share(layout: FrameLayout, num_frames: int) -> Tensor:
    """Return the base's part of all content tokens, for each frame: (F,) float64."""
    share = layout.num_base / (layout.num_base + layout.num_grid)
    return torch.full((num_frames,), share, dtype=torch.float64)


def _scores(
    base: Tensor, grid: Tensor, settings: Settings, *, reference: bool
) -> tuple[Tensor, Tensor]:
    scores = [
        propagate(
            make_nodes(tokens),
            similarity=settings.similarity,
            temperature=settings.temperature,
            num_steps=settings.num_steps,
            half_precision_degree=settings.half_precision_degree,
            reference=reference,
        )[0]
        for tokens in (base, grid.flatten(1, 2))
    ]
    return scores[0], scores[1]
