"""Which visual tokens to keep: the mathematics, on plain tensors."""

from pruner.budget import water_fill
from pruner.buying import BuyingPlan, buying_order, plan_purchases, rank_tokens
from pruner.graph import cross_scores, propagate
from pruner.layout import FrameLayout
from pruner.mr_pruner import Ranking, mr_pruner, rank_frames
from pruner.nodes import Nodes, make_nodes
from pruner.novelty import Novelty
from pruner.packed import prune_packed
from pruner.scores import Scores, Settings, score_frames

__all__ = [
    "BuyingPlan",
    "FrameLayout",
    "Nodes",
    "Novelty",
    "Ranking",
    "Scores",
    "Settings",
    "buying_order",
    "cross_scores",
    "make_nodes",
    "mr_pruner",
    "plan_purchases",
    "propagate",
    "prune_packed",
    "rank_frames",
    "rank_tokens",
    "score_frames",
    "water_fill",
]
