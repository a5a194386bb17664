"""The methods by name: where each one chooses, and which function does it.

A new method is one file and one row of the table, or an entry point of another distribution, see
`pruner.plugins`. Nothing here loads torch before a method is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pruner.layout import frame_layout
from pruner.plugins import MethodTable, check_kept, check_ranking
from pruner.ranking import Candidates, Ranking, Task

if TYPE_CHECKING:
    from torch import Tensor

Scope = Literal["frame", "bank", "share", "clip", "model", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What the callers of a method need to know about it.

    The scope says where the method chooses, and with that how its function is called:

    ========= ============================================== =======================================
    scope     chooses                                        function
    ========= ============================================== =======================================
    ``frame`` by ranking inside one frame; a share is a      ``(base, grid, task) -> Ranking``
              prefix
    ``bank``  by ranking inside each frame, then among       the same, and ``chooser`` with
              the first tokens of all frames                 ``(candidates, budget)``, to places
    ``share`` inside one frame, told its final share;        ``(base, grid, newline, shares)``, to
              FlashVID reads the sum of the shares only      features and indices of each frame
    ``clip``  among all tokens of the clip                   ``(base, grid, budget)``, to indices
                                                             of each frame
    ``model`` inside the language model, for each question   see the function
    ``none``  nothing: every token is kept                   none
    ========= ============================================== =======================================

    Attributes:
        name: as in `METHODS`.
        scope: where it chooses.
        summary: one line for help texts, with the paper.
        function: ``module:name`` of the function, loaded when first used; empty for scope ``none``.
        chooser: the same of the second function of scope ``bank``.
        needs_share: whether its ranking depends on the nominal share of a frame.
        is_random: whether its choice depends on a seed.
        has_graph: whether it reads the settings of the token graph.
        num_steps: propagation steps unless told otherwise, for methods with a token graph.
        origin: distribution and version that added it, empty for this project's own.
    """

    name: str
    scope: Scope
    summary: str
    function: str = ""
    chooser: str = ""
    needs_share: bool = False
    is_random: bool = False
    has_graph: bool = False
    num_steps: int = 1
    origin: str = ""

    @property
    def enters_unpruned(self) -> bool:
        """Whether every token of the clip enters the language model."""
        return self.scope in ("model", "none")

    @property
    def ranks(self) -> bool:
        """Whether it ranks inside a frame, so that a clip's candidates have a bound."""
        return self.scope in ("frame", "bank")

    @property
    def may_leave_frames_out(self) -> bool:
        """Whether a frame may keep no token, as the method itself shares the budget out."""
        return self.scope in ("bank", "share", "clip")

    def load(self) -> Callable[..., Any]:
        """Import the function; raises ValueError where there is none."""
        if not self.function.partition(":")[2]:
            raise ValueError(f"{self.name} chooses nothing: {self.scope = }")
        return _load(self.function)


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


METHODS = MethodTable(
    method
    for method in (
        Method(name="none", scope="none", summary="every token"),
        Method(
            name="uniform",
            scope="frame",
            function="pruner.baselines:rank_uniform",
            summary="evenly over the picture (ordered dithering)",
        ),
        Method(
            name="random",
            scope="frame",
            function="pruner.baselines:rank_random",
            summary="at random",
            is_random=True,
        ),
        Method(
            name="tome",
            scope="share",
            function="pruner.tome:tome",
            summary="similar tokens merged (ToMe, ICLR 2023)",
        ),
        Method(
            name="fastv",
            scope="model",
            function="pruner.fastv:fastv",
            summary="by attention inside the language model (FastV, ECCV 2024)",
        ),
        Method(
            name="gprune",
            scope="frame",
            function="pruner.gprune:rank_gprune",
            summary="by propagation over a token graph (G-Prune, AAAI 2025)",
            has_graph=True,
            num_steps=5,
        ),
        Method(
            name="mr_pruner",
            scope="frame",
            function="pruner.mr_pruner:rank_mr_pruner",
            summary="by token graphs inside and across resolutions (MR-Pruner, WACV 2026)",
            needs_share=True,
            has_graph=True,
        ),
        Method(
            name="coverage",
            scope="bank",
            function="pruner.coverage:rank_coverage",
            chooser="pruner.coverage:cover",
            summary="what stands for the rest of the clip, of MR-Pruner's best (this project's)",
            has_graph=True,
        ),
        Method(
            name="evs",
            scope="clip",
            function="pruner.evs:evs",
            summary="what changed since the frame before (EVS, arXiv 2510.14624)",
        ),
        Method(
            name="vidcom2",
            scope="clip",
            function="pruner.vidcom2:vidcom2",
            summary="what is unlike the rest of the clip (VidCom2, arXiv 2505.14454)",
        ),
        Method(
            name="vcast",
            scope="clip",
            function="pruner.vcast:vcast",
            summary="where the clip turns, and what stands out (V-CAST, arXiv 2603.27650)",
        ),
        Method(
            name="floc",
            scope="clip",
            function="pruner.floc:floc",
            summary="what represents all tokens, by facility location (FLoC, ICLR 2026)",
        ),
        Method(
            name="flashvid",
            scope="share",
            function="pruner.flashvid:flashvid",
            summary="diverse tokens, the rest merged over time (FlashVID, ICLR 2026)",
        ),
    )
)
"""This project's, and those that installed distributions add."""


def rank(name: str, base: Tensor, grid: Tensor, task: Task) -> Ranking:
    """Rank every token of F frames by a method, so that any share is a prefix.

    Methods that do not choose inside a frame rank nothing: tokens stay in source order, for what is
    chosen later.

    Args:
        name: a key of `METHODS`.
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        task: what the method is told beside the features.

    Returns:
        The ranking, on the device of the features.

    Raises:
        KeyError: an unknown name.
        ValueError: shapes that do not fit, parameters out of range, features not finite.
    """
    method = METHODS[name]
    if not method.ranks:
        from pruner.baselines import rank_none

        return rank_none(base, grid)
    ranking: Ranking = method.load()(base, grid, task)
    if method.origin:
        check_ranking(method, ranking, len(base), frame_layout(base, grid).num_tokens)
    if task.newlines_last and method.scope == "frame":
        from pruner.newlines import newlines_last

        return replace(ranking, order=newlines_last(ranking.order, frame_layout(base, grid)))
    return ranking


def choose(
    name: str, base: Tensor, grid: Tensor, newline: Tensor, shares: Sequence[int]
) -> list[tuple[Tensor | None, Tensor]]:
    """Choose what a clip keeps by a method that is not a ranking inside a frame.

    Args:
        name: a key of `METHODS`, of scope ``share`` or ``clip``.
        base: (F, N1, D) base tokens of all frames in source order, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        newline: (D,), the newline token.
        shares: F whole numbers in [0, num_tokens], newlines counted: how many tokens each frame
            keeps. Methods of scope ``clip`` and FlashVID share their sum out anew; VidCom2's is at
            least F.

    Returns:
        For each frame the features (k, D) of what it keeps, None where tokens are kept as they are,
        and `keep_indices` (k,) int64 flat indices, ascending and unique; the sum of k is that of
        the shares.

    Raises:
        KeyError: an unknown name.
        ValueError: a method of another scope, shapes that do not fit, shares out of range, features
            not finite.
    """
    method, num_tokens = METHODS[name], frame_layout(base, grid).num_tokens
    if method.scope not in ("share", "clip"):
        raise ValueError(f"{name} does not choose among the tokens of a clip: {method.scope = }")
    if len(shares) != len(base) or not all(0 <= share <= num_tokens for share in shares):
        raise ValueError(f"a share per frame, up to {num_tokens = }: {shares = }")
    if method.scope == "share":
        kept = list(method.load()(base, grid, newline, shares))
    else:
        kept = [(None, indices) for indices in method.load()(base, grid, sum(shares))]
    if method.origin:
        check_kept(method, kept, shares, num_tokens)
    return kept


def choose_candidates(name: str, candidates: Candidates, budget: int) -> Tensor:
    """Choose among the first tokens of all frames' rankings.

    Args:
        name: a key of `METHODS`, of scope ``bank``.
        candidates: of all frames, each ranked by this method.
        budget: tokens to choose and costs of frames to pay, at least 0.

    Returns:
        (k,) int64, the places of those chosen among the candidates, ascending; k is
        min(budget, n), with costs of frames what is left beside those of the frames chosen from.

    Raises:
        KeyError: an unknown name.
        ValueError: a method of another scope, features not finite.
    """
    method = METHODS[name]
    if not method.chooser:
        raise ValueError(f"{name} does not choose among ranked tokens: {method.scope = }")
    chosen: Tensor = _load(method.chooser)(candidates, budget)
    return chosen
