"""MR-Pruner: training-free multi-resolution visual token pruning (WACV 2026)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pruner.layout import frame_layout
from pruner.order import rank_tokens
from pruner.ranking import Ranking, Task
from pruner.scores import Scores, score_frames
from pruner.settings import PUBLISHED, Settings


def rank_mr_pruner(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank every token of F frames, so that any share of a clip-wide budget is a prefix.

    MR-Pruner's scores and its split between the resolutions; `pruner.order` gives the order and
    its departures. The grid tokens beyond the nominal share `task.num_keep` are the pruned set of
    the cross-resolution term: a share near it is what MR-Pruner would keep, others approximate it.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: its nominal share lies in [0, num_tokens].

    Returns:
        The ranking, on the device of the features.

    Raises:
        ValueError: shapes that do not fit, a share out of range, features not finite.

    Cost: O(F (N1^2 + N2^2 + N1 N2) D); memory: see `pruner.graph.propagate`, plus one float32 copy
    of the features.
    """
    scores = score_frames(base, grid, num_keep=task.num_keep, settings=task.settings)
    order = scores.plan.order(scores.base)
    return Ranking(order=order, informativeness=scores.informativeness)


def mr_pruner(
    base: Tensor,
    grid: Tensor,
    *,
    keep_ratio: float = 0.1,
    num_keep: int | None = None,
    settings: Settings = PUBLISHED,
    reference: bool = False,
) -> list[Tensor]:
    """Choose the tokens that F frames keep, each frame for itself.

    Departures from the paper's code, for a cap that holds: exactly `num_keep` tokens are kept,
    newlines included (only those of rows that keep a token); see `score_frames` for the others.
    `reference` computes what was published: int(keep_ratio * num_tokens) base and grid tokens, the
    leftover of a full grid lost, and every newline on top. Ties go to the lower index in both.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        keep_ratio: fraction kept of all tokens of a frame, in (0, 1]; at least one token is kept.
        num_keep: number kept, in [1, num_tokens], instead of `keep_ratio`.
        settings: parameters of the scores.
        reference: the published computation to the letter; needs a grid.

    Returns:
        F tensors `keep_indices`: int64 flat indices, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, parameters out of range, features not finite.

    Cost and memory: as `rank_mr_pruner`.
    """
    num_tokens = frame_layout(base, grid).num_tokens
    if num_keep is None:
        num_keep = _count(keep_ratio, num_tokens, reference)
    elif not 1 <= num_keep <= num_tokens:
        raise ValueError(f"a frame keeps 1 to all of its tokens: {num_keep = }, {num_tokens = }")
    scores = score_frames(base, grid, num_keep=num_keep, settings=settings, reference=reference)
    if reference:
        return _published_choice(scores)
    return list(scores.plan.order(scores.base)[:, :num_keep].sort(dim=1).values)


def _count(keep_ratio: float, num_tokens: int, reference: bool) -> int:
    """Tokens kept of `num_tokens`: floor of the product, 0.29 * 100 being 29 (published: 28)."""
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"the fraction kept lies in (0, 1]: {keep_ratio = }")
    if reference:
        return int(keep_ratio * num_tokens)
    return max(math.floor(round(keep_ratio * num_tokens, 6)), 1)


def _published_choice(scores: Scores) -> list[Tensor]:
    """The k1 best base tokens, the k2 best grid tokens and every newline, ascending."""
    layout, device = scores.plan.layout, scores.base.device
    base_order, newlines = rank_tokens(scores.base), layout.newline_indices().to(device)
    grid_order = layout.grid_indices().to(device)[scores.plan.grid_order]  # flat indices
    counts = zip(scores.num_base_kept.tolist(), scores.num_grid_kept.tolist(), strict=True)
    chosen = [
        torch.cat((base_order[frame, :num_base], grid_order[frame, :num_grid], newlines))
        for frame, (num_base, num_grid) in enumerate(counts)
    ]
    return [indices.sort().values for indices in chosen]
