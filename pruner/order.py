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
        return _place(tokens, self.positions, self.opens_row, layout)


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
    opens = torch.zeros(num_frames, num_base + num_grid, dtype=torch.bool, device=device)
    opens.scatter_(1, num_base + _first_of_rows(_ranks(grid_order), layout), True)
    opens_row = opens.gather(1, slots)
    return BuyingPlan(
        layout=layout,
        grid_order=grid_order,
        slots=slots,
        positions=_positions(opens_row),
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


def joint_order(scores: Tensor, layout: FrameLayout, *, num_frames: int = 1) -> Tensor:
    """Order in which a growing share buys tokens that are ranked without regard to resolution.

    For scores that mean the same in both resolutions, and with `num_frames` in several frames: a
    budget for all of them, spent where the scores are highest. Newlines as in `buying_order`.

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
    ranks = _ranks(order).unflatten(1, (num_frames, num_content))
    opens_row = torch.zeros_like(order, dtype=torch.bool)
    first = _first_of_rows(ranks[:, :, layout.num_base :], layout)  # (F, K, rows)
    opens_row.scatter_(1, first.flatten(1), True)
    flat = torch.cat((torch.arange(layout.num_base), layout.grid_indices())).to(device)
    frame, content = order // num_content, order % num_content
    tokens = frame * layout.num_tokens + flat[content]
    return _place(tokens, _positions(opens_row), opens_row, layout)


def _ranks(order: Tensor) -> Tensor:
    """Place of each token in an order (F, N): the inverse permutation."""
    places = torch.arange(order.shape[1], device=order.device)
    return torch.empty_like(order).scatter_(1, order, places.expand_as(order))


def _first_of_rows(grid_ranks: Tensor, layout: FrameLayout) -> Tensor:
    """Least rank in each grid row, (..., rows * columns) -> (..., rows)."""
    by_row: Tensor = grid_ranks.unflatten(-1, (layout.rows, max(layout.columns, 1)))
    return by_row.amin(dim=-1)


def _positions(opens_row: Tensor) -> Tensor:
    """Place of each purchase (F, N) in the order once newlines are counted."""
    purchases = torch.arange(opens_row.shape[1], device=opens_row.device)
    return purchases + opens_row.cumsum(dim=1) - opens_row.long()


def _place(tokens: Tensor, positions: Tensor, opens_row: Tensor, layout: FrameLayout) -> Tensor:
    """Write purchases (F, K N) to their positions, and the newline of a row behind its opener."""
    num_frames = tokens.shape[1] // (layout.num_base + layout.num_grid)
    length = num_frames * layout.num_tokens
    order = tokens.new_empty(tokens.shape[0], length + 1)
    order.scatter_(1, positions, tokens)
    flat = tokens % layout.num_tokens
    after_row = layout.num_base + (layout.row_of(flat) + 1) * (layout.columns + 1) - 1
    after = torch.where(opens_row, positions + 1, length)
    # Purchases without a newline write the spare column.
    order.scatter_(1, after, tokens - flat + after_row)
    return order[:, :-1]
