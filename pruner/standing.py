"""How far tokens of a clip stand for each other, and how many each kept one stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.nodes import make_nodes
from pruner.rounding import snap

REACH = 8
"""From so many frames apart on, tokens do not stand for each other."""
_POWER = 4
"""Of the cosine: 0.84 counts half, 0.5 next to nothing."""
_ROWS = 512
"""Tokens that are compared with others at a time."""


def standing(units: Tensor, times: Tensor, others: Tensor, other_times: Tensor) -> Tensor:
    """Tell how far other tokens stand for some: as far as they are alike and near in time.

    s_ij = max(0, cos(x_i, x_j))^4 max(0, 1 - |t_i - t_j| / 8). Places play no part, so that what a
    pan or a shake moves is nothing new.

    Args:
        units: (n, D) float32 or float64, unit vectors or zero.
        times: (n,), in sampled frames.
        others: (k, D), as `units`.
        other_times: (k,).

    Returns:
        s (n, k), 0 to 1 in multiples of 2^-20, 1 for a token of the same frame that is the same.
    """
    near = (times.to(units)[:, None] - other_times.to(units)).abs_()
    near = near.div_(-REACH).add_(1).clamp_min_(0)
    alike = snap((units @ others.T).clamp_(0, 1)).pow_(_POWER)
    return snap(alike.mul_(near))


@torch.no_grad()
def stand_ins(features: Tensor) -> Tensor:
    """Find for each token of a frame the one that stands best for it among those ranked before it.

    So it is known of every prefix of the ranking which of its tokens counts for each token behind
    it: its stand-in, else the stand-in of that, and so on (`prefix_sizes`).

    Args:
        features: (N, D) floating point, un-normalised, in the order of the ranking.

    Returns:
        (N,) int32 ranks, the first of several; -1 where none stands for it (`standing`).

    Raises:
        ValueError: features not finite.

    Cost: O(N^2 D / 2). Memory: O(N D + 512 N).
    """
    units = _units(features)
    times = units.new_zeros(len(units))
    found = torch.full((len(units),), -1, dtype=torch.int32, device=units.device)
    for start in range(0, len(units), _ROWS):
        end = min(start + _ROWS, len(units))
        shares = standing(units[start:end], times[start:end], units[:end], times[:end])
        best, places = _first_best(shares.tril_(start - 1))
        found[start:end] = torch.where(best > 0, places, -1)
    return found


def prefix_sizes(stand_ins: Tensor, num_kept: int) -> Tensor:
    """Count how many tokens of a frame each of the first of its ranking stands for.

    Args:
        stand_ins: (N,) of `stand_ins`.
        num_kept: 1 to N.

    Returns:
        (num_kept,) int64, at least 1.
    """
    owners = torch.arange(len(stand_ins), device=stand_ins.device)
    while (behind := owners >= num_kept).any():
        owners[behind] = stand_ins[owners[behind]].long()
    return owners[owners >= 0].bincount(minlength=num_kept)


@torch.no_grad()
def token_sizes(features: Tensor, times: Tensor, kept: Tensor, sizes: Tensor) -> Tensor:
    """Count how many tokens each kept one stands for, itself among them.

    A token that is not kept counts for the kept one that stands best for it (`standing`), the first
    of several, and for none where none does. Those are the sizes of proportional attention, which
    adds log(size) to the logits of a key (ToMe, ICLR 2023, eq. 1): a model then attends to what is
    shown in the proportions of the whole. There sizes are those of merged tokens; here no token is
    merged, and a token may stand for those of other frames.

    Args:
        features: (n, D) floating point, un-normalised.
        times: (n,) ascending, in sampled frames.
        kept: (k,) int64, the places of the kept tokens, ascending.
        sizes: (n,) int64, how many each stands for already.

    Returns:
        (k,) int64. Their sum is that of `sizes`, less those of tokens for which none stands.

    Raises:
        ValueError: features not finite.

    Cost: O(m D) for each token, with m kept ones within 8 frames. Memory: O(512 m) beside the
    features.
    """
    is_left = torch.ones_like(times, dtype=torch.bool)
    is_left[kept] = False
    counts = sizes[kept]
    kept_times = times[kept].contiguous()
    left = is_left.nonzero().flatten()
    for start in range(0, len(left), _ROWS):
        some = left[start : start + _ROWS]
        first = torch.searchsorted(kept_times, times[some[0]] - REACH, right=True)
        end = torch.searchsorted(kept_times, times[some[-1]] + REACH)
        near = slice(int(first), int(end))
        if near.start == near.stop:
            continue
        shares = standing(
            _units(features[some]), times[some], _units(features[kept[near]]), kept_times[near]
        )
        best, places = _first_best(shares)
        stands = best > 0
        counts.index_add_(0, places[stands] + near.start, sizes[some[stands]])
    return counts


def _first_best(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of each row and the first place of it, (n,) each."""
    best = shares.amax(dim=1, keepdim=True)
    places = torch.arange(shares.shape[1], device=shares.device)
    return best[:, 0], torch.where(shares == best, places, shares.shape[1]).amin(dim=1)


def _units(features: Tensor) -> Tensor:
    return make_nodes(features[None]).units[0]
