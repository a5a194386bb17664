"""Tokens of a clip in runs of frames, with how far those of a run stand for each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate
from operator import itemgetter

import torch
from torch import Tensor

from pruner.nodes import make_nodes
from pruner.standing import standing

_MOST_TOGETHER = 4096
"""Tokens whose similarities are held together: 64 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Some frames that follow one another.

    Attributes:
        places: of their tokens, m of all.
        times: (m,) float64, in sampled frames.
        similarity: (m, m) float32, how far each stands for each other: see `standing`.
        density: (m,) float64, how many tokens there are of what each shows, sum_j s_ij; at least 1.
    """

    places: slice
    times: Tensor
    similarity: Tensor
    density: Tensor

    def cpu(self) -> Run:
        """Return the same in the memory of the CPU."""
        return Run(
            places=self.places,
            times=self.times.cpu(),
            similarity=self.similarity.cpu(),
            density=self.density.cpu(),
        )


def make_run(features: Tensor, times: Tensor, places: slice) -> Run:
    """Compare the tokens of some frames with each other.

    Args:
        features: (n, D) floating point, un-normalised.
        times: (n,) ascending, in sampled frames.
        places: of m tokens.

    Raises:
        ValueError: features not finite.

    Cost: O(m^2 D). Memory: O(m^2).
    """
    units = make_nodes(features[None, places]).units[0]
    own = times[places].double()
    similarity = standing(units, own, units, own)
    density = similarity.sum(dim=0, dtype=torch.float64).clamp_min_(1)  # 0 of a zero vector
    return Run(places=places, times=own, similarity=similarity, density=density)


def cut_runs(counts: Sequence[int]) -> list[slice]:
    """Cut frames of so many tokens into runs of at most 4,096 tokens, or of one frame.

    Returns:
        The places of each run's tokens, of one at least.
    """
    ends = list(accumulate(counts))
    starts = [0]
    for start, end in zip([0, *ends], ends, strict=False):
        if end - starts[-1] > _MOST_TOGETHER and start > starts[-1]:
            starts.append(start)
    return [slice(*pair) for pair in zip(starts, [*starts[1:], ends[-1]], strict=True)]


def join_choices(choices: Sequence[Iterable[tuple[int, int]]]) -> Iterator[int]:
    """Yield the places chosen in all runs, what is worth most first, those of the first of equals.

    Of each run no more is chosen than that takes.

    Args:
        choices: for each run what is chosen in turn, by worth, not ascending, and place.
    """
    return (place for _, place in merge(*choices, key=itemgetter(0), reverse=True))
