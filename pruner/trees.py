"""Trees of tokens in time: each hangs on its like in the frame before."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from pruner.nodes import make_nodes
from pruner.rounding import snap

_SAME = 0.8


def tree_parents(segment: Tensor, free: Tensor, *, at_most: int) -> Tensor:
    """Link tokens to the most similar token of the frame before, wherever it stands.

    Tree-based spatiotemporal token merging (TSTM) of FlashVID (ICLR 2026): a link needs a cosine
    above 0.8. Of more than allowed the most similar stay. Cosines are rounded to multiples of
    2^-20, ties by index; a zero vector is linked to nothing.

    Args:
        segment: (F, N, D) floating point.
        free: (F, N) bool, the tokens that take part.
        at_most: links allowed, at least 0.

    Returns:
        (F, N) int64: place of the parent in the frame before, -1 for none.

    Raises:
        ValueError: features not finite.

    Cost: O(F N^2 D); memory: O(N^2 + N D + F N).
    """
    cosines = torch.full(free.shape, -1.0, dtype=torch.float64, device=free.device)
    parents = torch.full(free.shape, -1, device=free.device)
    units = (make_nodes(frame[None]).units[0] for frame in segment)
    for frame, (before, now) in enumerate(pairwise(units), start=1):
        similarity = snap(now @ before.T).masked_fill_(~free[frame - 1], -1)  # (N, N)
        best, parents[frame] = similarity.max(dim=1)
        cosines[frame] = best.masked_fill_(~free[frame], -1)
    linked = (cosines > _SAME).flatten()
    linked[cosines.flatten().argsort(descending=True, stable=True)[at_most:]] = False
    return parents.masked_fill_(~linked.view_as(parents), -1)


def merge_trees(segment: Tensor, parents: Tensor) -> Iterator[Tensor]:
    """Average the tokens of each tree at its root, from the last frame to the first.

    On GPUs the sum of three tokens or more may differ in its last bits from run to run, unless
    torch is told to be deterministic.

    Args:
        segment: (F, N, D) floating point.
        parents: (F, N) int64, as from `tree_parents`.

    Yields:
        F tensors (N, D), float32 or float64, the last frame's first: at a root, a token without a
        parent, the mean of its tree; elsewhere that of what hangs on the token.

    Cost: O(F N D); memory: O(N D).
    """
    dtype = torch.float64 if segment.dtype == torch.float64 else torch.float32
    hanging = torch.zeros(segment.shape[1:], dtype=dtype, device=segment.device)
    num_hanging = hanging.new_zeros(len(hanging))
    for frame, parent in zip(segment.unbind()[::-1], parents.unbind()[::-1], strict=True):
        sums, sizes = frame + hanging, 1 + num_hanging
        linked = parent >= 0
        hanging = torch.zeros_like(sums).index_add_(0, parent[linked], sums[linked])
        num_hanging = torch.zeros_like(sizes).index_add_(0, parent[linked], sizes[linked])
        yield sums / sizes[:, None]
