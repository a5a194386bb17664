"""G-Prune (AAAI 2025, arXiv 2501.02268): graph-based pruning, each resolution for itself."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.graph import propagate
from pruner.layout import frame_layout
from pruner.nodes import mean_norms, node_batches
from pruner.order import keep_order, proportional_share, rank_tokens
from pruner.ranking import Ranking, Task
from pruner.settings import Settings

PUBLISHED_GPRUNE = Settings(num_steps=5)
"""The constants of G-Prune's published code."""


def rank_gprune(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank every token of F frames, so that any share of a clip-wide budget is a prefix.

    G-Prune's score (w P^n) / d in each resolution; both keep the same fraction of their content
    tokens. Departure, the same for every method here: a newline follows the first token of its row,
    see `pruner.order.keep_order`; the published code keeps all of them on top.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: only its settings are read, of which those across resolutions play no part.

    Returns:
        The ranking, on the device of the features.

    Raises:
        ValueError: shapes that do not fit, or features not finite.

    Cost: O(F (N1^2 + N2^2) (D + n)).
    """
    layout = frame_layout(base, grid)
    base_scores, base_norms = _score(base, task.settings)
    grid_scores, grid_norms = _score(grid, task.settings)
    share = proportional_share(layout, len(base))
    return Ranking(
        order=keep_order(base_scores, grid_scores, share, layout),
        informativeness=mean_norms(base_norms, grid_norms),
    )


def gprune(
    base: Tensor,
    grid: Tensor,
    *,
    keep_ratio: float = 0.5,
    settings: Settings = PUBLISHED_GPRUNE,
) -> list[Tensor]:
    """Choose the tokens of F frames as the published code does, each frame for itself.

    int(keep_ratio * N1) base and int(keep_ratio * rows * columns) grid tokens of the best scores,
    and every newline on top. The only departure: ties go to the lower index.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines.
        keep_ratio: fraction kept of each resolution, in (0, 1].
        settings: of the graph; those across resolutions play no part.

    Returns:
        F tensors `keep_indices`: int64 flat indices, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, a fraction out of range, features not finite.
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"the fraction kept lies in (0, 1]: {keep_ratio = }")
    layout = frame_layout(base, grid)
    base_order, grid_order = (
        rank_tokens(_score(tokens, settings, reference=True)[0]).cpu() for tokens in (base, grid)
    )
    kept_base = base_order[:, : int(keep_ratio * layout.num_base)]
    num_grid = int(keep_ratio * layout.rows * layout.columns)  # in the published order of products
    kept_grid = layout.grid_indices()[grid_order[:, :num_grid]]
    newlines = layout.newline_indices().expand(len(base), -1)
    return list(torch.cat((kept_base, kept_grid, newlines), dim=1).sort(dim=1).values)


def _score(
    features: Tensor, settings: Settings, *, reference: bool = False
) -> tuple[Tensor, Tensor]:
    """Scores and norms, (F, N) each, of features (F, ..., D) of one resolution."""
    scored = [
        (propagate(nodes, settings=settings, reference=reference)[0], nodes.norms)
        for nodes in node_batches(features)
    ]
    scores, norms = zip(*scored, strict=True)
    return torch.cat(scores), torch.cat(norms)
