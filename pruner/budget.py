"""How the visual tokens of a clip are shared out to its frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruner.rounding import significant_bits, snap

# Real shares are compared on multiples of 2^-24, so that the rounding of float64 breaks no tie.
_SHARE_BITS = 24


def water_fill(
    weights: Tensor | Sequence[float],
    budget: int,
    *,
    floors: Tensor | Sequence[int],
    caps: Tensor | Sequence[int],
) -> Tensor:
    """Share out a budget in proportion to weights, between floors and caps, in whole tokens.

    Finds the level L with sum_i clip(L w_i, floor_i, cap_i) = min(budget, sum of caps) exactly, on
    the segment between two neighbouring breakpoints, then rounds by largest remainder, ties by
    index. Weight 0 gets its floor; only what the others cannot take is shared out evenly among
    such frames, and all-zero weights act as equal weights.

    Args:
        weights: (n,), finite and at least 0.
        budget: tokens to share out.
        floors: (n,) whole numbers, least share of each frame, at least 0.
        caps: (n,) whole numbers, largest share of each frame, at least its floor.

    Returns:
        (n,) int64 on the CPU, sums to exactly min(budget, sum of caps).

    Raises:
        ValueError: a budget below the sum of the floors, or arguments that contradict each other.

    Cost: O(n log n).
    """
    weight = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    floor = torch.as_tensor(floors, dtype=torch.int64, device="cpu")
    cap = torch.as_tensor(caps, dtype=torch.int64, device="cpu")
    _check(weight, floor, cap, budget)
    target = min(budget, int(cap.sum()))
    zero = weight == 0
    # What the frames of positive weight cannot take is left to the others.
    for_zero = max(target - int(cap[~zero].sum()), int(floor[zero].sum()))
    real = torch.empty_like(weight)
    real[~zero] = _fill(weight[~zero], target - for_zero, floor[~zero], cap[~zero])
    real[zero] = _fill(torch.ones_like(weight[zero]), for_zero, floor[zero], cap[zero])
    real = snap(real, _SHARE_BITS)
    share = real.floor().long()
    by_remainder = torch.argsort(real - share, descending=True, stable=True)
    share[by_remainder[: target - int(share.sum())]] += 1
    return share


def filling_order(weights: Tensor | Sequence[float], counts: Sequence[int]) -> Tensor:
    """When tokens are handed out as a budget grows that is shared by weight.

    The n-th token of a frame comes when the level of `water_fill` without floors reaches
    n / weight, levels compared on 15 significant bits. Tokens of one frame come in order, those of
    several frames at one level in the order of the frames; those of frames of weight 0 behind all
    others, as if these frames had equal weights.

    Args:
        weights: (n,), finite and at least 0.
        counts: n whole numbers, tokens of each frame.

    Returns:
        (sum of counts,) int64 on the CPU: for each frame's first, second, ... token, one frame
        after another, its place from 0 on.

    Cost: O(N log N) for N tokens.
    """
    each = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    weight = each.repeat_interleave(torch.tensor(counts))
    numbers = torch.cat([torch.arange(1, count + 1) for count in counts])
    levels = numbers / torch.where(weight > 0, weight, 1)
    level = significant_bits(levels.clamp_max(torch.finfo(torch.float32).max)).long()
    order = (level + ((weight == 0).long() << 32)).argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    return places


def _check(weight: Tensor, floor: Tensor, cap: Tensor, budget: int) -> None:
    shapes = [tuple(tensor.shape) for tensor in (weight, floor, cap)]
    if weight.ndim != 1 or len(set(shapes)) != 1:
        raise ValueError(f"weights, floors and caps are vectors of one length: {shapes = }")
    if not bool((torch.isfinite(weight) & (weight >= 0)).all()):
        raise ValueError(f"weights are finite and at least 0: {weight = }")
    if not bool(((floor >= 0) & (floor <= cap)).all()):
        raise ValueError(f"shares need 0 <= floor <= cap: {floor = }, {cap = }")
    needed = int(floor.sum())
    if budget < needed:
        raise ValueError(f"the budget does not cover the floors: {budget = }, {needed = }")


def _fill(weight: Tensor, target: int, floor: Tensor, cap: Tensor) -> Tensor:
    """Real shares clip(L w, floor, cap) that sum to `target`, for positive weights."""
    if weight.numel() == 0:
        return weight
    weight = weight / weight.max()
    starts, ends = floor / weight, cap / weight  # levels at which a share begins and stops to grow
    levels = torch.cat((starts, ends)).sort().values

    def poured(index: int) -> float:
        return float((levels[index] * weight).clamp(floor, cap).sum())

    # The first breakpoint that reaches the target: poured() never decreases.
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if poured(middle) >= target else (middle + 1, high)
    if low == 0:
        return floor.double()
    # Between the two breakpoints nothing changes state, and the sum is linear in the level.
    full, waiting = ends <= levels[low - 1], starts >= levels[low]
    growing = ~(full | waiting)
    rest = target - float(cap[full].sum()) - float(floor[waiting].sum())
    level = rest / weight[growing].sum()
    return (level * weight).clamp(floor, cap)
