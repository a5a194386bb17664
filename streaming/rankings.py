"""How frames are ranked, and which variants of the options can share one ranking."""

import math
from collections.abc import Sequence
from dataclasses import replace

from pruner import METHODS, Settings
from streaming.option_groups import PruningOptions
from streaming.options import Options
from workers.frames import Pruning


def make_pruning(options: Options, share: float, longest: int) -> Pruning:
    """Return how a frame is ranked, and how much of that it sends on.

    What is kept in a bank can be asked in any way later, so it has all that any of them needs.

    Args:
        options: of the run.
        share: tokens of a frame's equal share of the budget.
        longest: unpruned tokens of the longest frame.
    """
    chosen = options.pruning
    method = METHODS[chosen.pruner]
    max_keep = longest
    if method.ranks:  # all that a frame's final share may come to, or that it may stand for
        wanted = options.budget
        weighed = wanted.novelty or wanted.timestamps or wanted.question_aware
        weighed = weighed or options.is_proportional
        is_even = wanted.shares == "equal" and not weighed
        fixed = is_even and method.scope == "frame"
        max_keep = min(longest, math.ceil(share * (1 if fixed else options.budget.headroom)))
    return Pruning(
        method=chosen.pruner if method.ranks else "none",
        num_keep=min(longest, int(share)) if method.needs_share else 0,
        max_keep=max_keep,
        seed=options.generation.seed if method.is_random else 0,
        newlines_last=chosen.newlines == "last" and method.scope == "frame",
        stand_ins=method.ranks and (options.is_proportional or options.store.bank is not None),
        settings=_graph_settings(chosen),
    )


def _graph_settings(chosen: PruningOptions) -> Settings:
    method = METHODS[chosen.pruner]
    if not method.has_graph:
        return Settings()
    steps = method.num_steps if chosen.pruner_steps is None else chosen.pruner_steps
    return replace(chosen.settings, num_steps=steps)


def ranking_of(pruning: Pruning) -> Pruning:
    """Return what makes a ranking: all but how much of it is sent on, and what with it."""
    return replace(pruning, max_keep=0, stand_ins=False)


def merge_prunings(prunings: Sequence[Pruning]) -> list[Pruning]:
    """Return each ranking once, with the most that is wanted of it: shares are prefixes."""
    merged: dict[Pruning, Pruning] = {}
    for pruning in prunings:
        held = merged.setdefault(ranking_of(pruning), pruning)
        merged[ranking_of(pruning)] = replace(
            held,
            max_keep=max(held.max_keep, pruning.max_keep),
            stand_ins=held.stand_ins or pruning.stand_ins,
        )
    return list(merged.values())
