"""Coverage: the tokens of a clip that stand for all others, whichever frame they are from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pruner.greedy import choose_greedily
from pruner.layout import FrameLayout, frame_layout
from pruner.mr_pruner import rank_mr_pruner
from pruner.newlines import newlines_last
from pruner.ranking import Candidates, Ranking, Task
from pruner.rounding import snap
from pruner.runs import cut_runs, join_choices, make_run

_PRIOR = 0.1
"""What the first of a ranking has ahead of the last: a tenth of a thing of the grid."""


def rank_coverage(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank every token of F frames for what is chosen of all frames later.

    MR-Pruner's order at no share, so that it is the same for every budget, with one newline of each
    frame, its last, in the second place and all others behind the other tokens.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: its settings are those of MR-Pruner's graph.

    Returns:
        The ranking, on the device of the features.

    Raises:
        ValueError: shapes that do not fit, features not finite.

    Cost and memory: as `pruner.mr_pruner.rank_mr_pruner`.
    """
    layout = frame_layout(base, grid)
    ranking = rank_mr_pruner(base, grid, replace(task, num_keep=0))
    order = newlines_last(ranking.order, layout)
    return replace(ranking, order=_last_newline_second(order, layout))


def _last_newline_second(order: Tensor, layout: FrameLayout) -> Tensor:
    if not layout.rows:
        return order
    last = layout.num_tokens - 1
    others = order[order != last].view(len(order), last)
    return torch.cat((others[:, :1], torch.full_like(others[:, :1], last), others[:, 1:]), dim=1)


@torch.no_grad()
def cover(candidates: Candidates, budget: int) -> Tensor:
    """Choose the candidates that cover all of them best, over all frames.

    Maximises F(S) = sum_i w_i max_{j in S} s_ij + 0.1 sum_{j in S} r_j, a facility location with
    the rankings as prior; the greedy choice reaches 1 - 1/e of the best.

    - s_ij = max(0, cos(x_i, x_j))^4 max(0, 1 - |t_i - t_j| / 8): token j stands for token i as far
      as they are alike and near in time, t counting sampled frames. Places play no part, so that
      what a pan or a shake moves is nothing new.
    - w_i = a_i / sum_j s_ij: a thing counts once, however many tokens show it. a_i is 1, and for
      base tokens N2 / N1: each resolution of a frame weighs the same. A newline is a thing like
      others, of which each frame has one candidate at least.
    - r_j falls from 1 for the first token of a frame's ranking to 1 / k for its last of k.

    Facility location of tokens is FLoC's (ICLR 2026), there with the cosine itself, equal weights
    and all tokens of a block of frames; powers, time, weights and prior are this project's.

    Frames that follow one another are chosen from together as long as they have at most 4,096
    candidates, else the next begin anew: F is then a sum over such runs, and gains decide over the
    whole clip what is taken of each. They are compared on 15 significant bits, and are sums of
    multiples of 2^-40, which float64 adds without error whatever the order.

    A frame of which a token is chosen may cost something beside its tokens, once. Its first token
    then counts what its best k tokens gain, summed, over k and that cost, for the k of which that
    is most: a frame is left out, or gets enough to be worth its cost. What the rest of the budget
    does not pay for is passed over: it is spent to the last token, or no frame chosen from has
    another candidate and what is left pays for no other frame. The bound holds without costs.

    Args:
        candidates: of all frames, in source order, with what frames cost.
        budget: tokens to choose and costs of frames to pay, at least 0.

    Returns:
        (k,) int64, the places of those chosen, ascending; k is min(budget, n) where frames cost
        nothing, and then what is chosen for a budget is chosen for every larger one. Ties go to
        the lower place.

    Raises:
        ValueError: features not finite.

    Cost: O(n m D) for n candidates in runs of m, at most 4,096 (or one frame); O(m) for each
    time that another token comes to stand for one. Memory: O(m^2 + n) beside the features.
    """
    prior = snap(_PRIOR * _ranks(candidates))
    areas, costs = _areas(candidates), _of_frames(candidates, _frame_costs(candidates))
    times = _of_frames(candidates, candidates.frame_indices)
    choices = []
    for places in cut_runs(candidates.counts):
        run = make_run(candidates.features, times, places)
        weights = snap(areas[places] / run.density)
        choices.append(choose_greedily(run, weights, prior=prior[places], costs=costs[places]))
    paid = _paid_for(candidates, join_choices(choices), budget)
    return torch.tensor(sorted(paid), dtype=torch.int64)


def _paid_for(candidates: Candidates, order: Iterable[int], budget: int) -> Iterator[int]:
    """Which of some candidates in turn a budget pays for, the cost of a frame with its first."""
    frames = [frame for frame, count in enumerate(candidates.counts) for _ in range(count)]
    costs = _frame_costs(candidates)
    for place in order if budget else ():
        price = 1 + costs[frames[place]]
        if price <= budget:
            budget -= price
            costs[frames[place]] = 0
            yield place
        if not budget:
            return


def _frame_costs(candidates: Candidates) -> list[int]:
    return list(candidates.frame_costs) or [0] * len(candidates.counts)


def _areas(candidates: Candidates) -> Tensor:
    """Weight of each candidate (n,) before density: all base tokens weigh what the grid does."""
    layouts = candidates.layouts
    num_base = _of_frames(candidates, [each.num_base for each in layouts])
    ratios = [each.num_grid / each.num_base if each.rows else 1.0 for each in layouts]
    base = candidates.order < num_base
    return torch.where(base, _of_frames(candidates, ratios), 1.0)


def _of_frames(candidates: Candidates, values: Sequence[float]) -> Tensor:
    """A number of each frame for each of its candidates, (n,) float64."""
    counts = torch.tensor(candidates.counts)
    each = torch.tensor(values, dtype=torch.float64).repeat_interleave(counts)
    return each.to(candidates.features.device)


def _ranks(candidates: Candidates) -> Tensor:
    """How early each candidate stands in its ranking, r (n,) float64."""
    ranks = [torch.arange(k, 0, -1, dtype=torch.float64) / k for k in candidates.counts]
    return torch.cat(ranks).to(candidates.features.device)
