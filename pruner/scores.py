"""Scores of MR-Pruner (WACV 2026): what each token of a frame is worth, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pruner.batches import frames_per_batch
from pruner.graph import cross_scores, propagate
from pruner.layout import FrameLayout, frame_layout
from pruner.nodes import Nodes, mean_norms, node_batches
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
    together = frames_per_batch(base.device, max(layout.num_base, layout.num_grid))
    batches = zip(node_batches(base, together), node_batches(grid, together), strict=True)
    dtype = base.dtype if reference else None
    return _join([_score(*nodes, layout, num_keep, settings, dtype) for nodes in batches])


def _score(
    base: Nodes,
    grid: Nodes,
    layout: FrameLayout,
    num_keep: int,
    settings: Settings,
    published_dtype: torch.dtype | None,
) -> Scores:
    """Scores of the frames of one batch, as published if told the features' dtype."""
    reference = published_dtype is not None
    base_scores, _ = propagate(base, settings=settings, reference=reference)
    grid_scores, _ = propagate(grid, settings=settings, reference=reference)
    informativeness = mean_norms(base.norms, grid.norms)
    total = informativeness.sum(dim=1)
    share = torch.where(total > 0, informativeness[:, 0] / total, 0.5)
    plan = plan_order(grid_scores, share, layout)
    if published_dtype is not None:
        num_base, num_grid = _published_split(base, grid, num_keep, published_dtype)
    else:
        num_base, num_grid = plan.num_base(num_keep), plan.num_grid(num_keep)

    if settings.cross_resolution and layout.num_grid > 0:
        rank = torch.arange(layout.num_grid, device=grid_scores.device)
        pruned = torch.zeros_like(grid_scores, dtype=torch.bool)
        pruned.scatter_(1, plan.grid_order, rank >= num_grid[:, None])  # Q
        cross, _ = cross_scores(base, grid, pruned, settings=settings, reference=reference)
        base_scores = base_scores + settings.beta * cross
    return Scores(
        base=base_scores,
        grid=grid_scores,
        informativeness=informativeness,
        num_base_kept=num_base,
        num_grid_kept=num_grid,
        plan=plan,
    )


def _join(parts: list[Scores]) -> Scores:
    """Scores of all frames, from those of each batch."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    plans = [part.plan for part in parts]
    tensors = (field.name for field in fields(OrderPlan) if field.name != "layout")
    plan = {name: torch.cat([getattr(plan, name) for plan in plans]) for name in tensors}
    return Scores(
        base=joined("base"),
        grid=joined("grid"),
        informativeness=joined("informativeness"),
        num_base_kept=joined("num_base_kept"),
        num_grid_kept=joined("num_grid_kept"),
        plan=OrderPlan(layout=plans[0].layout, **plan),
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
