"""FastV: visual tokens that the last query hardly attends to (ECCV 2024, arXiv 2403.06764)."""

from __future__ import annotations

import torch
from torch import Tensor


def fastv(attention: Tensor, *, is_visual: Tensor, num_keep: int) -> Tensor:
    """Choose the tokens that go on after layer K of the language model.

    FastV as published in code: a visual token's score is the attention it receives from the last
    token in layer K - 1, averaged over the heads; the `num_keep` best go on, with every token that
    is not visual. At a pruning ratio R the published code keeps round(num_visual * (1 - R)), half
    to even.

    Departures from the published code: the visual tokens are a mask and need not be one span; the
    mean is taken in float32 whatever the dtype; ties go to the lower index; the row is that of one
    sequence, whereas in a published batch the first sequence decides for all.

    Args:
        attention: (heads, length) floating point, the last query's softmax row in layer K - 1.
        is_visual: (length,) bool.
        num_keep: visual tokens kept, in [0, number of visual tokens].

    Returns:
        `keep_indices` (number of other tokens + num_keep,): int64, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, a count out of range, attention not finite.

    Cost: O(heads length + length log length).
    """
    if attention.ndim != 2 or is_visual.shape != attention.shape[1:]:
        raise ValueError(f"shapes do not fit: {attention.shape = }, {is_visual.shape = }")
    if is_visual.dtype != torch.bool:
        raise ValueError(f"a mask is bool: {is_visual.dtype = }")
    visual = is_visual.nonzero().flatten()  # (num_visual,)
    if not 0 <= num_keep <= len(visual):
        raise ValueError(f"no such number of visual tokens: {num_keep = }, {len(visual) = }")
    scores = attention.float().mean(dim=0)  # (length,)
    if not scores.isfinite().all():
        raise ValueError("the attention is not finite")
    order = scores[visual].sort(descending=True, stable=True).indices
    chosen = visual[order[:num_keep]]
    return torch.cat([(~is_visual).nonzero().flatten(), chosen]).sort().values
