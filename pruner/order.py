"""The order in which a growing share keeps the tokens of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.layout import FrameLayout
from pruner.newlines import content_places, first_of_rows, insert_newlines
from pruner.rounding import significant_bits, snap


def rank_tokens(scores: Tensor) -> Tensor:
    """Token indices by descending score, ties by ascending index.

    Args:
        scores: (F, N) floating point, finite and at least 0; rounded to 15 significant bits.

    Returns:
        (F, N) int64, a permutation of 0..N-1 in each row. Cost: O(F N log N).
    """
    return torch.argsort(significant_bits(scores), dim=1, descending=True, stable=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrderPlan:
    """From which resolution each token of the order comes, before the base tokens are scored.

    The first n content (non-newline) tokens are k1 = clip(floor(n s), n - N2, N1) base and n - k1
    grid tokens, s being the share of the base: what one resolution cannot use, the other gets.
    Whatever the base scores will be, content token n is therefore known to be base or grid. The
    newline of a row follows the first grid token of that row.

    Attributes:
        layout: the layout of all F frames.
        grid_order: (F, N2) int64, grid tokens (row-major) by descending score.
        ranks: (F, N) int64, N = N1 + N2: content token n is the base token of rank `ranks` if that
            is below N1, else the grid token of rank `ranks - N1`.
        places: (F, N) int64, where content token n stands in the order, newlines counted.
        starts_row: (F, N) bool, whether content token n is the first of its row, so that the
            newline of the row follows it.
    """

    layout: FrameLayout
    grid_order: Tensor
    ranks: Tensor
    places: Tensor
    starts_row: Tensor

    def num_base(self, share: int) -> Tensor:
        """Base tokens among the first `share` tokens, (F,) int64."""
        return ((self.places < share) & (self.ranks < self.layout.num_base)).sum(dim=1)

    def num_grid(self, share: int) -> Tensor:
        """Grid tokens, newlines excluded, among the first `share` tokens, (F,) int64."""
        return ((self.places < share) & (self.ranks >= self.layout.num_base)).sum(dim=1)

    def order(self, base_scores: Tensor) -> Tensor:
        """The whole order, once the base tokens are scored.

        Args:
            base_scores: (F, N1), finite and at least 0.

        Returns:
            (F, num_tokens) int64 flat indices: a permutation of all tokens of the frame, of which
            a share of S tokens keeps the first S. Cost: O(F N log N).
        """
        layout, device = self.layout, base_scores.device
        grid_tokens = layout.grid_indices().to(device)[self.grid_order]
        ranked = torch.cat((rank_tokens(base_scores), grid_tokens), dim=1)  # (F, N) by rank
        tokens = ranked.gather(1, self.ranks)
        return insert_newlines(tokens, self.places, self.starts_row, layout)


def plan_order(grid_scores: Tensor, base_share: Tensor, layout: FrameLayout) -> OrderPlan:
    """Plan the order of F frames from their grid scores alone.

    Args:
        grid_scores: (F, rows * columns), finite and at least 0.
        base_share: (F,), part of the content tokens that the base should have, in [0, 1].
        layout: the layout of all F frames.

    Returns:
        The plan. Cost: O(F N log N), without a wait for the device.

    Raises:
        ValueError: shapes that do not fit the layout.
    """
    num_frames, shape = base_share.shape[0], tuple(grid_scores.shape)
    if shape != (num_frames, layout.num_grid):
        raise ValueError(f"grid scores do not fit: {shape = }, {num_frames = }, {layout = }")
    device, num_base, num_grid = grid_scores.device, layout.num_base, layout.num_grid
    grid_order = rank_tokens(grid_scores)

    # k1 of the first n tokens; it grows by 0 or 1, so each token is known to be base or grid.
    share = snap(base_share.to(device, torch.float64))  # 0.49999997 acts like 0.5
    count = torch.arange(num_base + num_grid + 1, device=device)  # n
    wanted = (count * share[:, None]).floor().long()
    num_kept = torch.maximum(wanted, count - num_grid).clamp_max(num_base)  # k1, (F, N + 1)
    is_base = num_kept.diff(dim=1) > 0  # (F, N)
    ranks = torch.where(is_base, num_kept[:, :-1], num_base + (count - num_kept)[:, :-1])

    starts = torch.zeros(num_frames, num_base + num_grid, dtype=torch.bool, device=device)
    starts.scatter_(1, num_base + first_of_rows(_inverse(grid_order), layout), True)
    starts_row = starts.gather(1, ranks)
    return OrderPlan(
        layout=layout,
        grid_order=grid_order,
        ranks=ranks,
        places=content_places(starts_row),
        starts_row=starts_row,
    )


def keep_order(
    base_scores: Tensor, grid_scores: Tensor, base_share: Tensor, layout: FrameLayout
) -> Tensor:
    """The order in which a growing share keeps the tokens of each frame.

    Departure from MR-Pruner, whose budget counts content tokens only and which keeps every newline
    on top: here a newline follows the first token of its row, so a share of S keeps exactly S
    tokens, and shares nest. At most one row lacks its newline, where the cut falls between the two.

    Args:
        base_scores: (F, N1), finite and at least 0.
        grid_scores: (F, rows * columns), finite and at least 0.
        base_share: (F,), part of the content tokens that the base should have, in [0, 1].
        layout: the layout of all F frames.

    Returns:
        (F, num_tokens) int64 flat indices, a permutation; a share of S keeps the first S. Content
        tokens enter in descending score, ties by ascending index. Cost: O(F N log N).

    Raises:
        ValueError: shapes that do not fit the layout, or a share outside [0, 1].
    """
    shape, expected = tuple(base_scores.shape), (base_share.shape[0], layout.num_base)
    if shape != expected:
        raise ValueError(f"base scores do not fit: {shape = }, {expected = }")
    if not bool(((base_share >= 0) & (base_share <= 1)).all()):
        raise ValueError(f"the part of the base lies in [0, 1]: {base_share = }")
    return plan_order(grid_scores, base_share, layout).order(base_scores)


def proportional_share(layout: FrameLayout, num_frames: int) -> Tensor:
    """Return the base's part of all content tokens, for each frame: (F,) float64."""
    share = layout.num_base / (layout.num_base + layout.num_grid)
    return torch.full((num_frames,), share, dtype=torch.float64)


def joint_order(scores: Tensor, layout: FrameLayout, *, num_frames: int = 1) -> Tensor:
    """The order in which a growing share keeps tokens ranked without regard to resolution.

    For scores that mean the same in both resolutions, and with `num_frames` in several frames: one
    budget for all of them, spent where the scores are highest. Newlines as in `keep_order`.

    Args:
        scores: (F, K (N1 + N2)), for each frame base then grid row-major, finite and at least 0.
        layout: the layout of all frames.
        num_frames: K, consecutive frames that are ranked together.

    Returns:
        (F, K num_tokens) int64, a permutation: flat index, plus num_tokens for each frame before in
        the row. A share of S keeps the first S. Content tokens enter in descending score, ties by
        ascending index. Cost: O(F K N log(K N)).

    Raises:
        ValueError: scores that do not fit the layout.
    """
    num_content, shape = layout.num_base + layout.num_grid, tuple(scores.shape)
    if shape[1:] != (num_frames * num_content,):
        raise ValueError(f"scores do not fit: {shape = }, {num_frames = }, {num_content = }")
    order, device = rank_tokens(scores), scores.device
    ranks = _inverse(order).unflatten(1, (num_frames, num_content))
    first = first_of_rows(ranks[:, :, layout.num_base :], layout)  # (F, K, rows)
    starts_row = torch.zeros_like(order, dtype=torch.bool).scatter_(1, first.flatten(1), True)
    flat = torch.cat((torch.arange(layout.num_base), layout.grid_indices())).to(device)
    tokens = order // num_content * layout.num_tokens + flat[order % num_content]
    return insert_newlines(tokens, content_places(starts_row), starts_row, layout)


def _inverse(order: Tensor) -> Tensor:
    """Rank of each token in an order (F, N): the inverse permutation."""
    ranks = torch.arange(order.shape[1], device=order.device)
    return torch.empty_like(order).scatter_(1, order, ranks.expand_as(order))
