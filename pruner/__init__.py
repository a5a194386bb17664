"""Which visual tokens to keep: the mathematics, on plain tensors.

Names are loaded when they are first asked for, so that what needs no tensor needs no torch. A
method shares its name with its module: ``from pruner.mr_pruner import mr_pruner``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruner.baselines import random_order, uniform_order
    from pruner.budget import water_fill
    from pruner.evs import evs_scores
    from pruner.fastv import published_count
    from pruner.gprune import gprune_order
    from pruner.graph import cross_scores, propagate
    from pruner.layout import FrameLayout
    from pruner.mr_pruner import Ranking, rank_frames
    from pruner.nodes import Nodes, make_nodes
    from pruner.novelty import Novelty
    from pruner.order import BuyingPlan, buying_order, joint_order, plan_purchases, rank_tokens
    from pruner.packed import prune_packed
    from pruner.rankers import RANKERS, Task, newlines_last, rank
    from pruner.scores import Scores, score_frames
    from pruner.settings import Settings
    from pruner.tome import Matching, match_tokens, merge_tokens
    from pruner.vidcom2 import vidcom2_scores, vidcom2_shares

__all__ = [
    "RANKERS",
    "BuyingPlan",
    "FrameLayout",
    "Matching",
    "Nodes",
    "Novelty",
    "Ranking",
    "Scores",
    "Settings",
    "Task",
    "buying_order",
    "cross_scores",
    "evs_scores",
    "gprune_order",
    "joint_order",
    "make_nodes",
    "match_tokens",
    "merge_tokens",
    "newlines_last",
    "plan_purchases",
    "propagate",
    "prune_packed",
    "published_count",
    "random_order",
    "rank",
    "rank_frames",
    "rank_tokens",
    "score_frames",
    "uniform_order",
    "vidcom2_scores",
    "vidcom2_shares",
    "water_fill",
]

_HOMES = {
    "pruner.baselines": ("random_order", "uniform_order"),
    "pruner.budget": ("water_fill",),
    "pruner.evs": ("evs_scores",),
    "pruner.fastv": ("published_count",),
    "pruner.gprune": ("gprune_order",),
    "pruner.graph": ("cross_scores", "propagate"),
    "pruner.layout": ("FrameLayout",),
    "pruner.mr_pruner": ("Ranking", "rank_frames"),
    "pruner.nodes": ("Nodes", "make_nodes"),
    "pruner.novelty": ("Novelty",),
    "pruner.order": ("BuyingPlan", "buying_order", "joint_order", "plan_purchases", "rank_tokens"),
    "pruner.packed": ("prune_packed",),
    "pruner.rankers": ("RANKERS", "Task", "newlines_last", "rank"),
    "pruner.scores": ("Scores", "score_frames"),
    "pruner.settings": ("Settings",),
    "pruner.tome": ("Matching", "match_tokens", "merge_tokens"),
    "pruner.vidcom2": ("vidcom2_scores", "vidcom2_shares"),
}


def __getattr__(name: str) -> Any:
    """Load a name of ``__all__`` from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
