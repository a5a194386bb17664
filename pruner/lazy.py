"""Facility location by greedy choice, each gain counted only when it may be the largest.

On the CPU and in numpy, wherever the tokens are: a choice is thousands of steps on few numbers.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

from pruner.rounding import significant_bits, significant_bits_of
from pruner.runs import Run
from pruner.standing import REACH

_ROWS = 256
"""Tokens whose similarities to all others are multiplied at a time."""


def choose_lazily(run: Run, weights: Tensor, *, prior: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Take the token of m that adds most, again and again.

    What a token adds is sum_i w_i max(0, s_ij - max_{k in S} s_ik) + r_j, compared on 15
    significant bits, ties to the lower place. It never grows, so what a token added when it was
    last counted bounds what it adds now, and only the one with the highest bound is counted again
    (Minoux, 1978).

    Args:
        run: m tokens with s; times ascend.
        weights: w (m,) float64.
        prior: r (m,) float64.
        most: tokens to take at most.

    Returns:
        The places (min(most, m),) int64 in turn, and what each added, int32, in 15 significant
        bits: never more than the one before.

    Cost: O(m^2), and O(tokens within 8 frames) for each gain that is counted again.
    """
    similarity, weighing = run.similarity.numpy(force=True), weights.numpy(force=True)
    gains = prior.numpy(force=True).copy()
    for start in range(0, len(gains), _ROWS):
        some = slice(start, start + _ROWS)
        gains += weighing[some] @ similarity[some].astype(np.float64)
    bounds = significant_bits(torch.from_numpy(gains)).tolist()
    heap = [(-bound, place) for place, bound in enumerate(bounds)]
    heapq.heapify(heap)
    own = prior.tolist()
    near = _near(run.times)
    covered = np.zeros(len(gains), np.float32)  # max over S
    num_chosen = [0] * len(gains)  # when the gain of a token was counted
    places: list[int] = []
    worths: list[int] = []
    while len(places) < min(most, len(gains)):
        bound, place = heap[0]
        around = near[place]
        if num_chosen[place] == len(places):
            heapq.heappop(heap)
            places.append(place)
            worths.append(-bound)
            np.maximum(covered[around], similarity[place, around], out=covered[around])
            continue
        more = similarity[place, around] - covered[around]
        gain = own[place] + float(weighing[around] @ np.maximum(more, 0, out=more))
        num_chosen[place] = len(places)
        heapq.heapreplace(heap, (-significant_bits_of(gain), place))
    device = run.similarity.device
    return torch.tensor(places, dtype=torch.int64, device=device), torch.tensor(
        worths, dtype=torch.int32, device=device
    )


def _near(times: Tensor) -> list[slice]:
    """Return the tokens within reach of each."""
    times = times.cpu()
    starts = torch.searchsorted(times, times - REACH, right=True).tolist()
    ends = torch.searchsorted(times, times + REACH).tolist()
    return [slice(*pair) for pair in zip(starts, ends, strict=True)]
