"""Losses that guide attention to where an answer is found.

Left to itself, attention did not find the shape a question names in 1,200 steps, nor a time in
3,600; where it was guided to a time, no digit of it was said until what heads bring along was
learnt too. Nothing of this is left in the model but what it learnt.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional as F
from transformers import LlavaNextForConditionalGeneration

from training.forward import Passage, Prefix
from training.labels import IGNORE
from training.questions import TIMED, TYPES
from training.sequence_labels import NO_SIGN

_NUM_ROWS = 96
_LEAST = 1e-4
"""Added to a weight before its logarithm is taken."""


def look_loss(
    prefix: Prefix, passage: Passage, batch: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how little heads look at what is sought, while an answer that is looked up is said.

    Half of the heads of the last layer but one are to look at the tokens that show the item of an
    answer: the mean of -log(weight on them) over the answers' characters. In a time each sign has a
    head of its own, in the last layer, see ``time_loss``: there a head that brings signs brings
    nothing else.

    Args:
        prefix: The prompt's.
        passage: Its ``looks`` and ``time_looks``.
        batch: ``item``, ``sought``, ``reads``, ``types`` and ``labels``, as ``clips_batch`` says.

    Returns:
        That of all answers but times, and that of times.
    """
    shown = batch["item"].flatten(2)[:, prefix.frame, prefix.token]  # (clips, prefix)
    is_sought = shown[:, None, None] == batch["sought"][..., None]
    found = is_sought & (batch["reads"][:, :, prefix.frame] & (prefix.token >= 0))[:, :, None]
    rows = (batch["sought"] != IGNORE) & found.any(-1)
    is_time = torch.isin(batch["types"], torch.tensor([TYPES.index(name) for name in TIMED]))
    number = (batch["labels"] != IGNORE).long().cumsum(-1) - 1
    looks, times = (each.permute(0, 2, 3, 1, 4) for each in (passage.looks, passage.time_looks))
    loss, time = looks.sum() * 0.0, times.sum() * 0.0
    timed, others = rows & is_time[..., None], rows & ~is_time[..., None]
    if bool(others.any()):
        half = looks[others][:, : looks.shape[3] // 2].float()
        loss = -_log((half * found[others][:, None]).sum(-1)).mean()
    if bool(timed.any()):
        time = time_loss(times[timed].float(), found[timed], number[timed], prefix)
    return loss, time


def name_loss(passage: Passage, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return how little heads look at the word that names what is sought, while its answer is said.

    Half of the heads of the layer above the probed ones, over all tokens of answers whose question
    names one thing.

    Args:
        passage: Its ``names``.
        batch: ``named`` and ``labels``, as ``clips_batch`` says.
    """
    named = batch["named"]
    rows = (batch["labels"] != IGNORE) & named.any(-1, keepdim=True)
    weights = passage.names.permute(0, 2, 3, 1, 4)
    if not bool(rows.any()):
        return weights.sum() * 0.0
    half = weights[rows][:, : weights.shape[3] // 2].float()
    own = named[:, :, None].expand(*rows.shape, -1)[rows]
    return -_log((half * own[:, None]).sum(-1)).mean()


def time_loss(
    looks: torch.Tensor, found: torch.Tensor, number: torch.Tensor, prefix: Prefix
) -> torch.Tensor:
    """Return how little the head of each sign of a time looks where it is told, and no other does.

    A picture token knows all signs of its frame's time, so which one is said is settled by which
    head brings it: the k-th looks at what is found, the others at no picture at all.

    Args:
        looks: Weights (n, heads, prefix length) of the tokens of times.
        found: (n, prefix length) whether the time is told there.
        number: (n) which sign follows, from 1; before it stands a space, which is no head's.
        prefix: The prompt's.
    """
    is_own = torch.arange(looks.shape[1]) == number[:, None] - 1
    told = (looks * found[:, None]).sum(-1)
    elsewhere = 1 - (looks * (prefix.token >= 0)).sum(-1).clamp(max=1)
    is_other = ~is_own & (number > 0)[:, None]
    return -_log(told)[is_own].mean() - _log(elsewhere)[is_other].mean()


def copy_loss(
    model: LlavaNextForConditionalGeneration,
    prefix: Prefix,
    passage: Passage,
    stamp: torch.Tensor,
    signs: torch.Tensor,
) -> torch.Tensor:
    """Return how badly the head of each sign would say it of a picture token that it looks at.

    The cross entropy of what the last layer brings from there alone, read out as at the end: so
    what answers of a few questions teach is taught by every token. It is divided by the size of
    what it is added to in answers, so that it has to be heard there: divided by its own, it was
    right alone and a tenth of the rest.

    Args:
        model: The model.
        prefix: The prompt's.
        passage: Its ``rows``, ``looked_at`` and ``size``.
        stamp: (frames, 5) signs.
        signs: Ids of the signs that there are, without the one that is nothing.
    """
    states = passage.looked_at
    if not states.shape[1]:
        return states.sum() * 0.0
    language = model.model.language_model
    layer, heads = language.layers[-1], language.config.num_attention_heads
    told = stamp[prefix.frame[passage.rows], :heads]  # (n, 5)
    values = layer.self_attn.v_proj(layer.input_layernorm(states)).unflatten(-1, (heads, -1))
    output = layer.self_attn.o_proj.weight.unflatten(1, (heads, -1)).to(values.dtype)
    of_heads = slice(told.shape[1])
    said = torch.einsum("cnhd,ehd->cnhe", values[:, :, of_heads], output[:, of_heads])
    logits = model.lm_head(language.norm.weight * said / passage.size).float()
    known = told != NO_SIGN
    wanted = signs[told[known]].expand(len(states), -1)
    return F.cross_entropy(logits[:, known].flatten(0, 1), wanted.flatten())


def some_tokens(prefix: Prefix, item: torch.Tensor) -> torch.Tensor:
    """Return the places (n) of picture tokens spread evenly, and of some that show an item.

    Args:
        prefix: The prompt's.
        item: (clips, frames, tokens) what each token shows, below 0 for nothing.
    """
    on_picture = prefix.token >= 0
    shows = (item.flatten(2)[:, prefix.frame, prefix.token] >= 0).any(0) & on_picture
    some: torch.Tensor = torch.cat([_spread(on_picture), _spread(shows)]).unique()
    return some


def _spread(chosen: torch.Tensor) -> torch.Tensor:
    (places,) = chosen.nonzero(as_tuple=True)
    return places[:: max(1, len(places) // _NUM_ROWS)]


def stamp_loss(prefix: Prefix, passage: Passage, stamp: torch.Tensor) -> torch.Tensor:
    """Return how little some picture tokens look at their own frame's timestamp, a head a sign.

    Args:
        prefix: The prompt's.
        passage: Its ``rows`` and ``seen_from``.
        stamp: (frames, 5) signs, all ``IGNORE`` without timestamps.
    """
    weights = passage.seen_from
    if not weights.shape[2]:
        return weights.sum() * 0.0
    places = sign_places(prefix, stamp)[prefix.frame[passage.rows]].T  # (5, n)
    heads = torch.arange(len(places)) % weights.shape[1]
    index = places.clamp(min=0).expand(len(weights), -1, -1)[..., None]
    mass = weights[:, heads].float().gather(-1, index)[..., 0]
    return -_log(mass)[:, places >= 0].mean()


def sign_places(prefix: Prefix, stamp: torch.Tensor) -> torch.Tensor:
    """Return where in the prefix each frame's timestamp has its signs (frames, 5), -1 for none.

    They stand before the picture, with one token behind them.
    """
    number = torch.arange(stamp.shape[1])
    lengths = (stamp != NO_SIGN).sum(1, keepdim=True)
    first = (prefix.frame == torch.arange(len(stamp))[:, None]).int().argmax(1, keepdim=True)
    return torch.where(number < lengths, first - 1 - lengths + number, -1)


def _log(weights: torch.Tensor) -> torch.Tensor:
    return (weights + _LEAST).log()
