"""What a question keeps inside the language model: by its attention, beside a query-free reserve.

A method of this project.
"""

from __future__ import annotations

import torch
from torch import Tensor


def question_aware(
    attention: Tensor,
    *,
    is_visual: Tensor,
    priority: Tensor,
    num_keep: int,
    num_reserved: int,
) -> Tensor:
    """Choose the tokens that go on after layer K of the language model for one question.

    FastV (see `pruner.fastv`) keeps what the last query attends to in layer K - 1. It loses what
    nobody has looked at by then, such as numbers. So the first `num_reserved` tokens by `priority`,
    an order that depends on no question, go on in any case; the others by attention. And where
    FastV takes the mean over heads, in which a head that looks at text has little say and one that
    singles a token out is outvoted, here each head's attention is scaled to sum to 1 over the
    visual tokens, and a token's score is the largest of any head.

    Args:
        attention: (heads, length) floating point, the last query's softmax row in layer K - 1.
        is_visual: (length,) bool.
        priority: (number of visual tokens,), each one's place in the query-free order, from 0 on.
        num_keep: visual tokens kept, in [0, number of visual tokens].
        num_reserved: of them, kept by priority, in [0, num_keep].

    Returns:
        `keep_indices` (number of other tokens + num_keep,): int64, ascending, unique. Tokens of
        equal score go by priority.

    Raises:
        ValueError: shapes that do not fit, a count out of range, attention not finite.

    Cost: O(heads length + length log length).
    """
    visual = is_visual.nonzero().flatten()  # (num_visual,)
    if attention.ndim != 2 or is_visual.shape != attention.shape[1:]:
        raise ValueError(f"shapes do not fit: {attention.shape = }, {is_visual.shape = }")
    if priority.shape != visual.shape:
        raise ValueError(f"a place for each visual token: {priority.shape = }, {len(visual) = }")
    if not 0 <= num_reserved <= num_keep <= len(visual):
        raise ValueError(f"no such numbers: {num_reserved = }, {num_keep = }, {len(visual) = }")
    heads = attention[:, visual].float()
    if not heads.isfinite().all():
        raise ValueError("the attention is not finite")
    by_priority = priority.argsort()
    scores = (heads / heads.sum(dim=1, keepdim=True).clamp_min(_TINY)).amax(dim=0)
    scores[by_priority[:num_reserved]] = torch.inf
    best = scores[by_priority].sort(descending=True, stable=True).indices
    chosen = visual[by_priority[best[:num_keep]]]
    return torch.cat([(~is_visual).nonzero().flatten(), chosen]).sort().values


_TINY = torch.finfo(torch.float32).tiny
