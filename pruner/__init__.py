"""Which visual tokens to keep: the mathematics, on plain tensors.

Names are loaded when they are first asked for, so that what needs no tensor needs no torch. A
method shares its name with its module: ``from pruner.mr_pruner import mr_pruner``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruner.baselines import random_order, uniform_order
    from pruner.budget import filling_order, water_fill
    from pruner.choosing import choose, choose_candidates, rank
    from pruner.evs import evs_scores
    from pruner.gather import gather_tokens
    from pruner.graph import cross_scores, propagate
    from pruner.layout import FrameLayout, frame_layout
    from pruner.method import Method
    from pruner.methods import METHODS
    from pruner.newlines import newlines_last
    from pruner.nodes import Nodes, make_nodes
    from pruner.novelty import Novelty
    from pruner.order import OrderPlan, joint_order, keep_order, plan_order, rank_tokens
    from pruner.packed import prune_packed
    from pruner.ranking import Candidates, Ranking, Task
    from pruner.scores import Scores, score_frames
    from pruner.settings import Settings
    from pruner.standing import prefix_sizes, stand_ins, token_sizes
    from pruner.tome import Matching, match_tokens, merge_tokens
    from pruner.vidcom2 import vidcom2_scores, vidcom2_shares

__all__ = [
    "METHODS",
    "Candidates",
    "FrameLayout",
    "Matching",
    "Method",
    "Nodes",
    "Novelty",
    "OrderPlan",
    "Ranking",
    "Scores",
    "Settings",
    "Task",
    "choose",
    "choose_candidates",
    "cross_scores",
    "evs_scores",
    "filling_order",
    "frame_layout",
    "gather_tokens",
    "joint_order",
    "keep_order",
    "make_nodes",
    "match_tokens",
    "merge_tokens",
    "newlines_last",
    "plan_order",
    "prefix_sizes",
    "propagate",
    "prune_packed",
    "random_order",
    "rank",
    "rank_tokens",
    "score_frames",
    "stand_ins",
    "token_sizes",
    "uniform_order",
    "vidcom2_scores",
    "vidcom2_shares",
    "water_fill",
]

_HOMES = {
    "pruner.baselines": ("random_order", "uniform_order"),
    "pruner.budget": ("filling_order", "water_fill"),
    "pruner.choosing": ("choose", "choose_candidates", "rank"),
    "pruner.evs": ("evs_scores",),
    "pruner.gather": ("gather_tokens",),
    "pruner.graph": ("cross_scores", "propagate"),
    "pruner.layout": ("FrameLayout", "frame_layout"),
    "pruner.method": ("Method",),
    "pruner.methods": ("METHODS",),
    "pruner.newlines": ("newlines_last",),
    "pruner.nodes": ("Nodes", "make_nodes"),
    "pruner.novelty": ("Novelty",),
    "pruner.order": ("OrderPlan", "joint_order", "keep_order", "plan_order", "rank_tokens"),
    "pruner.packed": ("prune_packed",),
    "pruner.ranking": ("Candidates", "Ranking", "Task"),
    "pruner.scores": ("Scores", "score_frames"),
    "pruner.settings": ("Settings",),
    "pruner.standing": ("prefix_sizes", "stand_ins", "token_sizes"),
    "pruner.tome": ("Matching", "match_tokens", "merge_tokens"),
    "pruner.vidcom2": ("vidcom2_scores", "vidcom2_shares"),
}


def __getattr__(name: str) -> Any:
    """Load a name of ``__all__`` from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
