"""Scores of MR-Pruner (WACV 2026): what each token of a frame is worth, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.graph import cross_scores, propagate
from pruner.layout import frame_layout
from pruner.nodes import Nodes, make_nodes, mean_norms
from pruner.order import OrderPlan, plan_order
from pruner.settings import PUBLISHED, Settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Everything that decides which tokens of F frames are kept.

    Attributes:
        base: (F, N1) scores inside the base tile + beta * cross-resolution term.
        grid: (F, N2) scores inside the grid, row-major.
        informativeness: (F, 2) float64 mean L2 norm of base and grid; 0 for an empty grid.
        num_base_kept: (F,) int64, k1.
        num_grid_kept: (F,) int64, k2, newlines not counted.
        plan: the grid ranking, and from which resolution each token of the order comes.
    """

    base: Tensor
    grid: Tensor
    informativeness: Tensor
    num_base_kept: Tensor
    num_grid_kept: Tensor
    plan: OrderPlan


@torch.no_grad()
def score_frames(
    base: Tensor,
    grid: Tensor,
    *,
    num_keep: int,
    settings: Settings = PUBLISHED,
    reference: bool = False,
) -> Scores:
    """Score the tokens of F frames and split a frame's tokens between the resolutions.

    Intra-resolution scores of both, the split by informativeness (mean L2 norm), then the
    cross-resolution term of the grid tokens that the split does not keep.

    Departures, undone by `reference` except the last: `num_keep` counts newlines, and what one
    resolution cannot use goes to the other (`pruner.order`); nodes without neighbours
    (`pruner.graph`); where no grid token is pruned the cross term is 0, not NaN.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        num_keep: tokens of a frame, in [0, num_tokens]; newlines are on top with `reference`.
        settings: parameters of the scores.
        reference: the published computation to the letter.

    Returns:
        The scores, on the device of the features, in float32 (float64 for float64 features).

    Raises:
        ValueError: shapes that do not fit, `num_keep` out of range, features not finite, a single
            tile with `reference`.

    Cost: O(F (N1^2 + N2^2 + N1 N2) D).
    """
    layout = frame_layout(base, grid)
    if not 0 <= num_keep <= layout.num_tokens:
        raise ValueError(f"a frame keeps 0 to all of its tokens: {num_keep = }, {layout = }")
    if reference and layout.num_grid == 0:
        raise ValueError(f"the published method needs a grid; this is a single tile: {layout = }")
    base_nodes, grid_nodes = make_nodes(base), make_nodes(grid.flatten(1, 2))
    base_scores, _ = propagate(base_nodes, settings=settings, reference=reference)
    grid_scores, _ = propagate(grid_nodes, settings=settings, reference=reference)
    informativeness = mean_norms(base_nodes.norms, grid_nodes.norms)
    total = informativeness.sum(dim=1)
    share = torch.where(total > 0, informativeness[:, 0] / total, 0.5)
    plan = plan_order(grid_scores, share, layout)
    if reference:
        num_base, num_grid = _published_split(base_nodes, grid_nodes, num_keep, base.dtype)
    else:
        num_base, num_grid = plan.num_base(num_keep), plan.num_grid(num_keep)

    if settings.cross_resolution and layout.num_grid > 0:
        rank = torch.arange(layout.num_grid, device=grid.device)
        pruned = torch.zeros_like(grid_scores, dtype=torch.bool)
        pruned.scatter_(1, plan.grid_order, rank >= num_grid[:, None])  # Q
        cross, _ = cross_scores(
            base_nodes, grid_nodes, pruned, settings=settings, reference=reference
        )
        base_scores = base_scores + settings.beta * cross
    return Scores(
        base=base_scores,
        grid=grid_scores,
        informativeness=informativeness,
        num_base_kept=num_base,
        num_grid_kept=num_grid,
        plan=plan,
    )


def _published_split(
    base: Nodes, grid: Nodes, num_keep: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """k1 = min(int(B s), N1) and k2 = min(B - k1, N2), (F,) each; s rounded to the feature dtype.

    Where both resolutions are zero the published run fails in int(NaN); s is 0.5 here.
    """
    base_mean, grid_mean = base.norms.to(dtype).mean(dim=1), grid.norms.to(dtype).mean(dim=1)
    share = (base_mean / (base_mean + grid_mean)).nan_to_num(0.5)
    num_base = (num_keep * share).long().clamp_max(base.norms.shape[1])
    return num_base, (num_keep - num_base).clamp_max(grid.norms.shape[1])
