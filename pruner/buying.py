"""The order in which a growing share buys the tokens of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.layout import FrameLayout

# Scores are compared on 14 bits after the leading one (steps of 3e-5 to 6e-5). Tokens that are
# equal up to the rounding of a float32 run (about 1e-6, and different for another number of
# threads or another batch) then tie nearly always, and the lower index decides everywhere. Steps
# are finer than any difference between scores that means something.
_DROPPED_BITS = 23 - 14
# Shares are compared on multiples of 2^-20 for the same reason: 0.49999997 must act like 0.5.
_SHARE_STEPS = 2**20


def rank_tokens(scores: Tensor) -> Tensor:
    """Token indices by descending score, ties by ascending index.

    Args:
        scores: (F, N) floating point, finite and at least 0; rounded to 15 significant bits.

    Returns:
        (F, N) int64, a permutation of 0..N-1 in each row. Cost: O(F N log N).
    """
    bits = scores.float().clamp_min(0.0).contiguous().view(torch.int32)
    rounded = (bits + (1 << (_DROPPED_BITS - 1))) >> _DROPPED_BITS
    return torch.argsort(rounded, dim=1, descending=True, stable=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuyingPlan:
    """What each successive purchase of a frame is, known before the base tokens are scored.

    The first n content (non-newline) tokens are k1 = clip(floor(n s), n - N2, N1) base and n - k1
    grid tokens, s being the share of the base: what one resolution has no use for spills over to
    the other. Whatever the base scores will be, purchase n is therefore known to be base or grid.
    The newline of a row is bought right after the first grid token of that row.

    Attributes:
        layout: the layout of all F frames.
        grid_order: (F, N2) int64, grid tokens (row-major) by descending score.
        slots: (F, N) int64, N = N1 + N2: purchase n takes the base token of rank `slots` if that is
            below N1, else the grid token of rank `slots - N1`.
        positions: (F, N) int64, place of purchase n in the order, newlines counted.
        opens_row: (F, N) bool, whether a newline follows purchase n.
    """

    layout: FrameLayout
    grid_order: Tensor
    slots: Tensor
    positions: Tensor
    opens_row: Tensor

    def num_base(self, share: int) -> Tensor:
        """Base tokens among the first `share` tokens bought, (F,) int64."""
        return ((self.positions < share) & (self.slots < self.layout.num_base)).sum(dim=1)

    def num_grid(self, share: int) -> Tensor:
        """Grid tokens, newlines excluded, among the first `share` tokens bought, (F,) int64."""
        return ((self.positions < share) & (self.slots >= self.layout.num_base)).sum(dim=1)

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
        ranked = torch.cat((rank_tokens(base_scores), grid_tokens), dim=1)  # (F, N) by slot
        tokens = ranked.gather(1, self.slots)  # (F, N) by purchase
        order = tokens.new_empty(tokens.shape[0], layout.num_tokens + 1)
        order.scatter_(1, self.positions, tokens)
        newlines = layout.num_base + (layout.row_of(tokens) + 1) * (layout.columns + 1) - 1
        after = torch.where(self.opens_row, self.positions + 1, layout.num_tokens)
        order.scatter_(1, after, newlines)  # purchases without a newline write the spare column
        return order[:, :-1]


def plan_purchases(grid_scores: Tensor, base_share: Tensor, layout: FrameLayout) -> BuyingPlan:
    """Plan the purchases of F frames from their grid scores alone.

    Args:
        grid_scores: (F, rows * columns), finite and at least 0.
        base_share: (F,), part of the content tokens that the base should have, in [0, 1].
        layout: the layout of all F frames.

    Returns:
        The plan. Cost: O(F N log N).

    Raises:
        ValueError: shapes that do not fit the layout, or a share outside [0, 1].
    """
    num_frames, shape = base_share.shape[0], tuple(grid_scores.shape)
    if shape != (num_frames, layout.num_grid):
        raise ValueError(f"grid scores do not fit: {shape = }, {num_frames = }, {layout = }")
    if not bool(((base_share >= 0) & (base_share <= 1)).all()):
        raise ValueError(f"the part of the base lies in [0, 1]: {base_share = }")
    device, num_base, num_grid = grid_scores.device, layout.num_base, layout.num_grid
    grid_order = rank_tokens(grid_scores)

    # k1 after n purchases; it grows by 0 or 1, so each purchase is base or grid.
    share = (base_share.to(device, torch.float64) * _SHARE_STEPS).round() / _SHARE_STEPS
    count = torch.arange(num_base + num_grid + 1, device=device)  # n
    wanted = (count * share[:, None]).floor().long()
    bought_base = torch.maximum(wanted, count - num_grid).clamp_max(num_base)  # (F, N + 1)
    is_base = bought_base.diff(dim=1) > 0  # (F, N)
    bought_grid = count - bought_base
    slots = torch.where(is_base, bought_base[:, :-1], num_base + bought_grid[:, :-1])

    # The first token of each row in the ranking pays for the newline of that row.
    rank = torch.empty_like(grid_order)
    rank.scatter_(1, grid_order, torch.arange(num_grid, device=device).expand_as(grid_order))
    opens = torch.zeros(num_frames, num_base + num_grid, dtype=torch.bool, device=device)
    if layout.rows > 0:
        first = rank.view(num_frames, layout.rows, layout.columns).amin(dim=2)  # (F, rows)
        opens.scatter_(1, num_base + first, True)
    opens_row = opens.gather(1, slots)
    newlines_before = opens_row.cumsum(dim=1) - opens_row.long()
    return BuyingPlan(
        layout=layout,
        grid_order=grid_order,
        slots=slots,
        positions=count[:-1] + newlines_before,
        opens_row=opens_row,
    )


def buying_order(
    base_scores: Tensor, grid_scores: Tensor, base_share: Tensor, layout: FrameLayout
) -> Tensor:
    """The order in which a growing share buys the tokens of each frame.

    Departure from MR-Pruner, which buys content tokens only and adds every newline on top: here a
    newline is bought with the first token of its row, so a share of S keeps exactly S tokens, and
    shares nest. At most one row ends without its newline, where the cut falls between the two.

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
    return plan_purchases(grid_scores, base_share, layout).order(base_scores)
