"""Facility location by greedy choice, where a frame of which any token is taken costs something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pruner.rounding import significant_bits
from pruner.runs import Run
from pruner.standing import REACH

_ROWS = 256
"""Tokens whose similarities to others are worked on together."""


def choose_greedily(
    run: Run, weights: Tensor, *, prior: Tensor, costs: Tensor
) -> Iterator[tuple[int, int]]:
    """Take the token of m that is worth most, again and again.

    What a token adds is sum_i w_i max(0, s_ij - max_{k in S} s_ik) + r_j; what it is worth is that,
    or where its frame is still to be paid for, what the best of its frame would add by what they
    cost, as `pruner.coverage.cover` says.

    Args:
        run: m tokens with s; the times of a frame's tokens are the same, and those of no other.
        weights: w (m,) float64.
        prior: r (m,) float64.
        costs: (m,) float64, of the frame of each token.

    Yields:
        For each token in turn what it is worth, on 15 significant bits, and its place among all.
        Where frames cost something, a token is worth no more than the least before it: those that
        waited for the first of their frame come right behind it.

    Cost: O(m^2) before the first, O(m) for each time that another token comes to stand for one.
    """
    similarity = run.similarity
    frames = _frames(run.times)
    unpaid = costs[frames.slots[:, 0]]
    covered = similarity.new_zeros(len(weights))  # max over S, (m,)
    rows = torch.arange(len(weights), device=weights.device)
    gains = prior + _loss(similarity, weights, rows, covered, covered + 1)
    worth = _worth(gains, frames.slots, unpaid)
    taken = torch.zeros_like(worth, dtype=torch.bool)
    least = int(worth.max())
    for _ in range(len(gains)):
        place = int(worth.argmax())
        least = min(least, int(worth[place]))
        yield least, run.places.start + place
        taken[place] = True
        unpaid[frames.owners[place]] = 0
        near, others = frames.around(place)
        before = covered[near]
        after = torch.maximum(before, similarity[place, near])
        better = (after > before).nonzero().flatten()  # only they change gains
        gains[near] -= _loss(similarity[near, near], weights[near], better, before, after)
        covered[near] = after
        slots = (frames.slots[others] - near.start).clamp_max(near.stop - near.start)
        worth[near] = _worth(gains[near], slots, unpaid[others])
        worth.masked_fill_(taken, -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Frames:
    """Which tokens are of which frame, and how far the choice of one is felt."""

    owners: list[int]
    """The frame of each token."""
    slots: Tensor
    """(F, k) the places of each frame's tokens, m beyond the last."""
    firsts: list[int]
    ends: list[int]
    """Of each token: the first whose gain its choice can change, and the one behind the last."""

    def around(self, place: int) -> tuple[slice, slice]:
        """Return whose gains the choice of a token can change, and the frames of these."""
        first, end = self.firsts[place], self.ends[place]
        return slice(first, end), slice(self.owners[first], self.owners[end - 1] + 1)


def _frames(times: Tensor) -> _Frames:
    """Gains change of tokens that are similar to one that is similar to the chosen one."""
    _, owners, counts = times.unique_consecutive(return_inverse=True, return_counts=True)
    places = torch.arange(len(times)).split(counts.tolist())
    slots = pad_sequence(places, batch_first=True, padding_value=len(times))
    return _Frames(
        owners=owners.tolist(),
        slots=slots.to(times.device),
        firsts=torch.searchsorted(times, times - 2 * REACH, right=True).tolist(),
        ends=torch.searchsorted(times, times + 2 * REACH).tolist(),
    )


def _worth(gains: Tensor, slots: Tensor, costs: Tensor) -> Tensor:
    """What tokens add by what they cost, on 15 significant bits: (m,) int32, -1 where they wait.

    Args:
        gains: (m,) float64.
        slots: (F, k), the places of each frame's tokens, m beyond the last.
        costs: (F,) float64, what is still to be paid for a frame.
    """
    keys = significant_bits(gains)
    waiting = costs > 0
    if not waiting.any():
        return keys
    own = slots[waiting]
    sums = nn.functional.pad(gains, (0, 1))[own].sort(dim=1, descending=True).values.cumsum(dim=1)
    sizes = torch.arange(1, own.shape[1] + 1, device=own.device)
    means = sums / (sizes + costs[waiting, None])
    padded = nn.functional.pad(keys, (0, 1), value=-1)
    first = own.gather(1, padded[own].argmax(dim=1, keepdim=True))[:, 0]
    padded[own] = -1
    padded[first] = significant_bits(means.amax(dim=1))
    return padded[:-1]


def _loss(
    similarity: Tensor, weights: Tensor, rows: Tensor, before: Tensor, after: Tensor
) -> Tensor:
    """What tokens would add less once rows are covered by `after` and not `before`, (m,) float64.

    sum_i w_i (max(0, s_ij - before_i) - max(0, s_ij - after_i)) over the rows.
    """
    loss = torch.zeros_like(weights)
    for some in rows.split(_ROWS):
        least, most = before[some, None], after[some, None]
        loss += weights[some] @ similarity[some].clamp_(least, most).sub_(least).double()
    return loss
