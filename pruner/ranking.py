"""What a method that ranks inside a frame is told and returns, and what a bank's chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruner.layout import FrameLayout
from pruner.settings import PUBLISHED, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a method is told beside the features of F frames.

    Attributes:
        frame_indices: F numbers, at least 0: the place of each frame in its clip.
        num_keep: nominal share of a frame, newlines included; read by methods that need one.
        settings: of the token graph; read by methods that have one.
        seed: of random choices, at least 0.
        newlines_last: newlines go behind all other tokens, see `pruner.newlines.newlines_last`;
            else each follows the first token of its row, see `pruner.order.keep_order`.
    """

    frame_indices: Sequence[int]
    num_keep: int = 0
    settings: Settings = PUBLISHED
    seed: int = 0
    newlines_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Tokens of F frames in the order in which a growing share keeps them.

    Attributes:
        order: (F, num_tokens) int64 flat indices, a permutation in each row.
        informativeness: (F, 2) float64, mean L2 norm of base and of grid tokens.
    """

    order: Tensor
    informativeness: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """The first tokens of the rankings of F frames, one frame after another in source order.

    Attributes:
        features: (n, D) floating point, un-normalised.
        order: (n,) int64, their flat indices in their frames.
        counts: F numbers, of the candidates of each frame; their sum is n.
        frame_indices: F ascending numbers, the place of each frame in its clip.
        layouts: of the F frames.
        frame_costs: of the F frames, whole numbers: what of the budget is paid beside its tokens
            for a frame of which any is chosen; empty where nothing is.
    """

    features: Tensor
    order: Tensor
    counts: Sequence[int]
    frame_indices: Sequence[int]
    layouts: Sequence[FrameLayout]
    frame_costs: Sequence[int] = ()
