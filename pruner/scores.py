"""Scores of MR-Pruner (WACV 2026): what each token of a frame is worth, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.graph import cross_scores, propagate
from pruner.layout import FrameLayout
from pruner.nodes import Nodes, make_nodes
from pruner.order import BuyingPlan, plan_purchases
from pruner.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Everything that decides which tokens of F frames are kept.

    Attributes:
        base: (F, N1) final scores, intra + beta * cross.
        base_intra: (F, N1) scores inside the base tile.
        base_cross: (F, N1) cross-resolution term.
        grid: (F, N2) scores inside the grid, row-major.
        base_degrees: (F, N1) int64 neighbours in the base tile.
        cross_degrees: (F, N1) int64 pruned neighbours in the grid.
        grid_degrees: (F, N2) int64 neighbours in the grid.
        informativeness: (F, 2) float64 mean L2 norm of base and grid; 0 for an empty grid.
        num_base_kept: (F,) int64, k1.
        num_grid_kept: (F,) int64, k2, newlines not counted.
        plan: the grid ranking and the order of purchases.
    """

    base: Tensor
    base_intra: Tensor
    base_cross: Tensor
    grid: Tensor
    base_degrees: Tensor
    cross_degrees: Tensor
    grid_degrees: Tensor
    informativeness: Tensor
    num_base_kept: Tensor
    num_grid_kept: Tensor
    plan: BuyingPlan


def frame_layout(base: Tensor, grid: Tensor) -> FrameLayout:
    """Layout shared by all frames of base (F, N1, D) and grid (F, rows, columns, D) tokens.

    Raises:
        ValueError: axes, numbers of frames, widths or dtypes that do not fit together.
    """
    base_shape, grid_shape = tuple(base.shape), tuple(grid.shape)
    if base.ndim != 3 or grid.ndim != 4:
        raise ValueError(
            f"need (F, N1, D) and (F, R, C, D) tokens: {base_shape = }, {grid_shape = }"
        )
    if (base_shape[0], base_shape[2]) != (grid_shape[0], grid_shape[3]):
        raise ValueError(f"frames or widths of the tokens differ: {base_shape = }, {grid_shape = }")
    if base.dtype != grid.dtype:
        raise ValueError(f"base and grid come from one model: {base.dtype = }, {grid.dtype = }")
    return FrameLayout(num_base=base_shape[1], rows=grid_shape[1], columns=grid_shape[2])


@torch.no_grad()
def score_frames(
    base: Tensor,
    grid: Tensor,
    *,
    num_keep: int,
    settings: Settings | None = None,
    reference: bool = False,
) -> Scores:
    """Score the tokens of F frames and split a frame's tokens between the resolutions.

    Intra-resolution scores of both, the split by informativeness (mean L2 norm), then the
    cross-resolution term of the grid tokens that the split does not keep.

    Departures, undone by `reference` except the last: `num_keep` pays for newlines, and what one
    resolution cannot use goes to the other (`pruner.order`); nodes without neighbours
    (`pruner.graph`); where no grid token is pruned the cross term is 0, not NaN.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        num_keep: tokens of a frame, in [0, num_tokens]; newlines are on top with `reference`.
        settings: parameters, the published ones if None.
        reference: the published computation to the letter.

    Returns:
        The scores, on the device of the features, in float32 (float64 for float64 features).

    Raises:
        ValueError: shapes that do not fit, `num_keep` out of range, features not finite, a single
            tile with `reference`.

    Cost: O(F (N1^2 + N2^2 + N1 N2) D).
    """
    settings = settings or Settings()
    layout = frame_layout(base, grid)
    if not 0 <= num_keep <= layout.num_tokens:
        raise ValueError(f"a frame keeps 0 to all of its tokens: {num_keep = }, {layout = }")
    if reference and layout.num_grid == 0:
        raise ValueError(f"the published method needs a grid; this is a single tile: {layout = }")
    base_nodes, grid_nodes = make_nodes(base), make_nodes(grid.flatten(1, 2))
    base_intra, base_degrees = _propagate(base_nodes, settings, reference)
    grid_scores, grid_degrees = _propagate(grid_nodes, settings, reference)
    informativeness = _mean_norms(base_nodes, grid_nodes)
    total = informativeness.sum(dim=1)
    share = torch.where(total > 0, informativeness[:, 0] / total, 0.5)
    plan = plan_purchases(grid_scores, share, layout)
    if reference:
        num_base, num_grid = _published_split(base_nodes, grid_nodes, num_keep, base.dtype)
    else:
        num_base, num_grid = plan.num_base(num_keep), plan.num_grid(num_keep)

    cross, cross_degrees = torch.zeros_like(base_intra), torch.zeros_like(base_degrees)
    if settings.cross_resolution and layout.num_grid > 0:
        rank = torch.arange(layout.num_grid, device=grid.device)
        pruned = torch.zeros_like(grid_scores, dtype=torch.bool)
        pruned.scatter_(1, plan.grid_order, rank >= num_grid[:, None])  # Q
        cross, cross_degrees = cross_scores(
            base_nodes,
            grid_nodes,
            pruned,
            similarity=settings.cross_similarity,
            temperature=settings.temperature,
            half_precision_degree=settings.half_precision_degree,
            reference=reference,
        )
    return Scores(
        base=base_intra + settings.beta * cross,
        base_intra=base_intra,
        base_cross=cross,
        grid=grid_scores,
        base_degrees=base_degrees,
        cross_degrees=cross_degrees,
        grid_degrees=grid_degrees,
        informativeness=informativeness,
        num_base_kept=num_base,
        num_grid_kept=num_grid,
        plan=plan,
    )


def _propagate(nodes: Nodes, settings: Settings, reference: bool) -> tuple[Tensor, Tensor]:
    return propagate(
        nodes,
        similarity=settings.similarity,
        temperature=settings.temperature,
        num_steps=settings.num_steps,
        half_precision_degree=settings.half_precision_degree,
        reference=reference,
    )


def mean_norms(base: Tensor, grid: Tensor) -> Tensor:
    """Mean L2 norm of base (F, N1, D) and of grid (F, rows, columns, D) tokens, (F, 2) float64."""
    return _mean_norms(make_nodes(base), make_nodes(grid.flatten(1, 2)))


def _mean_norms(base: Nodes, grid: Nodes) -> Tensor:
    return torch.stack((_mean(base.norms), _mean(grid.norms)), dim=1)


def _mean(norms: Tensor) -> Tensor:
    """Mean over tokens (F, N) -> (F,) in float64, 0 for no tokens."""
    return norms.double().sum(dim=1) / max(norms.shape[1], 1)


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
