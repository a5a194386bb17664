"""Tokens ranked and chosen by a method of the table, whichever it is."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from pruner.baselines import rank_none
from pruner.layout import frame_layout
from pruner.method import load_function
from pruner.methods import METHODS
from pruner.newlines import newlines_last
from pruner.plugins import check_kept, check_ranking
from pruner.ranking import Candidates, Ranking, Task


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
        return rank_none(base, grid)
    ranking: Ranking = method.load()(base, grid, task)
    if method.origin:
        check_ranking(method, ranking, len(base), frame_layout(base, grid).num_tokens)
    if task.newlines_last and method.scope == "frame":
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
    chosen: Tensor = load_function(method.chooser)(candidates, budget)
    return chosen
