"""Which visual tokens to keep: the mathematics, on plain tensors."""

from pruner.baselines import random_order, uniform_order
from pruner.budget import water_fill
from pruner.evs import evs, evs_scores
from pruner.fastv import fastv, published_count
from pruner.gprune import gprune, gprune_order
from pruner.graph import cross_scores, propagate
from pruner.layout import FrameLayout
from pruner.mr_pruner import Ranking, mr_pruner, rank_frames
from pruner.nodes import Nodes, make_nodes
from pruner.novelty import Novelty
from pruner.order import BuyingPlan, buying_order, joint_order, plan_purchases, rank_tokens
from pruner.packed import prune_packed
from pruner.rankers import RANKERS, Task, newlines_last, rank
from pruner.scores import Scores, Settings, score_frames
from pruner.tome import Matching, match_tokens, merge_tokens, tome
from pruner.vidcom2 import vidcom2, vidcom2_scores, vidcom2_shares

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
    "evs",
    "evs_scores",
    "fastv",
    "gprune",
    "gprune_order",
    "joint_order",
    "make_nodes",
    "match_tokens",
    "merge_tokens",
    "mr_pruner",
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
    "tome",
    "uniform_order",
    "vidcom2",
    "vidcom2_scores",
    "vidcom2_shares",
    "water_fill",
]
