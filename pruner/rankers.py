"""The methods that choose inside one frame, by name, behind one signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruner.baselines import random_order, uniform_order
from pruner.gprune import gprune_order
from pruner.layout import FrameLayout
from pruner.mr_pruner import Ranking, rank_frames
from pruner.scores import frame_layout, mean_norms
from pruner.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a ranker is told beside the features.

    Attributes:
        num_keep: nominal share of a frame, newlines included.
        frame_indices: number of each frame in its clip.
        settings: of the graph.
        seed: of random choices.
        newlines_last: see `newlines_last`; False buys them as `buying_order` says.
    """

    num_keep: int
    frame_indices: Sequence[int]
    settings: Settings
    seed: int = 0
    newlines_last: bool = False


def rank(name: str, base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank every token of F frames by a method, so that any share is a prefix.

    Args:
        name: a key of `RANKERS`.
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: see `Task`.

    Returns:
        The ranking, on the device of the features.

    Raises:
        KeyError: an unknown name.
        ValueError: shapes that do not fit, parameters out of range, features not finite.
    """
    ranking = RANKERS[name](base, grid, task)
    if task.newlines_last:
        return replace(ranking, order=newlines_last(ranking.order, frame_layout(base, grid)))
    return ranking


def newlines_last(order: Tensor, layout: FrameLayout) -> Tensor:
    """Put newlines behind all other tokens of an order (F, num_tokens), which stay as they are.

    A variant of this project: a small share then buys content only. MR-Pruner's cross-resolution
    term still takes for pruned what `buying_order` would leave out.
    """
    behind = layout.is_newline(order).to(torch.uint8)
    return order.gather(1, behind.argsort(dim=1, stable=True))


def _mr_pruner(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    return rank_frames(base, grid, num_keep=task.num_keep, settings=task.settings)


def _gprune(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    return _ranking(gprune_order(base, grid, task.settings), base, grid)


def _random(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    layout = frame_layout(base, grid)
    return _ranking(random_order(layout, task.frame_indices, task.seed), base, grid)


def _uniform(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    return _ranking(uniform_order(frame_layout(base, grid), len(base)), base, grid)


def _source_order(base: Tensor, grid: Tensor, task: Task) -> Ranking:
    order = torch.arange(frame_layout(base, grid).num_tokens).expand(len(base), -1)
    return _ranking(order, base, grid)


def _ranking(order: Tensor, base: Tensor, grid: Tensor) -> Ranking:
    return Ranking(order=order.to(base.device), informativeness=mean_norms(base, grid))


RANKERS: dict[str, Callable[[Tensor, Tensor, Task], Ranking]] = {
    "none": _source_order,
    "uniform": _uniform,
    "random": _random,
    "gprune": _gprune,
    "mr_pruner": _mr_pruner,
}
"""`none` ranks nothing: all tokens in source order, for what is chosen later."""
