"""What a question keeps inside the language model: what stands for what it looks at, and the rest.

A method of this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from pruner.greedy import choose_greedily
from pruner.rounding import snap
from pruner.runs import Run, join_choices

_PRIOR = 0.03
"""What the first by priority has ahead of the last, in things that the clip shows."""
_TINY = torch.finfo(torch.float32).tiny


@torch.no_grad()
def question_aware(
    attention: Tensor,
    *,
    is_visual: Tensor,
    runs: Sequence[Run],
    priority: Tensor,
    num_keep: int,
    reserve: float,
) -> Tensor:
    """Choose the tokens that go on after layer K of the language model for one question.

    FastV (see `pruner.fastv`) keeps what the last query attends to in layer K - 1: many tokens of
    the same thing, and nothing of what nobody has looked at by then, such as numbers. Here tokens
    are chosen that stand for what is looked at and for the rest of the clip, greedily to maximise

        F(S) = sum_i w_i max_{j in S} s_ij + 0.03 sum_{j in S} r_j,
        w_i = r / d_i + (1 - r) D a_i / sum_j a_j

    with s_ij how far token j stands for token i (`pruner.standing`), d_i = sum_j s_ij, so that the
    first part of w is that of `pruner.coverage`, and D = sum_i 1 / d_i the number of things that
    are shown: of all that is to be stood for, r is what the clip shows and 1 - r what the question
    looks at. a_i is the largest share that any head's attention gives to the token, each head's
    being scaled to sum to 1 over the visual tokens: FastV's mean over heads lets those that look at
    text outvote one that singles a token out. r_j falls evenly from 1 for the first token by
    `priority`, an order that depends on no question, to nothing: what is alike, such as the second
    of two red circles, is kept by it alone.

    Gains are compared as in `pruner.coverage.cover`, ties go to the lower place.

    Args:
        attention: (heads, length) floating point, the last query's softmax row in layer K - 1.
        is_visual: (length,) bool.
        runs: of the visual tokens, all of them.
        priority: (number of visual tokens,), each one's place in the query-free order, from 0 on.
        num_keep: visual tokens kept, in [0, number of visual tokens].
        reserve: r, 0 to 1.

    Returns:
        `keep_indices` (number of other tokens + num_keep,): int64, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, a number out of range, attention not finite.

    Cost: O(heads length), and O(m) for each time that another token comes to stand for one, for
    runs of m tokens.
    """
    visual = is_visual.nonzero().flatten()  # (num_visual,)
    if attention.ndim != 2 or is_visual.shape != attention.shape[1:]:
        raise ValueError(f"shapes do not fit: {attention.shape = }, {is_visual.shape = }")
    ends = [run.places.stop for run in runs]
    if ends[-1:] != [len(visual)]:
        raise ValueError(f"runs of all visual tokens: {ends = }, {len(visual) = }")
    if priority.shape != visual.shape:
        raise ValueError(f"a place for each visual token: {priority.shape = }, {len(visual) = }")
    if not (0 <= num_keep <= len(visual) and 0 <= reserve <= 1):
        raise ValueError(f"no such numbers: {num_keep = }, {len(visual) = }, {reserve = }")
    heads = attention[:, visual].float()
    if not heads.isfinite().all():
        raise ValueError("the attention is not finite")
    largest = (heads / heads.sum(dim=1, keepdim=True).clamp_min(_TINY)).amax(dim=0).double()
    shares = torch.cat([1 / run.density for run in runs])
    looked_at = largest / largest.sum().clamp_min(_TINY)
    weights = snap(reserve * shares + (1 - reserve) * shares.sum() * looked_at)
    prior = snap(_PRIOR * (1 - priority.double() / max(len(visual), 1)))
    choices = [
        choose_greedily(
            run,
            weights[run.places],
            prior=prior[run.places],
            costs=torch.zeros_like(run.times),
        )
        for run in runs
    ]
    chosen = torch.tensor(list(islice(join_choices(choices), num_keep)), dtype=torch.int64)
    return torch.cat([(~is_visual).nonzero().flatten(), visual[chosen]]).sort().values
