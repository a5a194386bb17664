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

SIGN_OF_HEAD = (0, 1, 0)
"""What the first heads are for where times are told: whole seconds with the point, tenths."""
_NUM_ROWS = 96
_LEAST = 1e-4
"""Added to a weight before its logarithm is taken."""


def look_loss(
    prefix: Prefix, passage: Passage, batch: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how little heads look at what is sought, while an answer that is looked up is said.

    Half of the heads of the last layer but one are to look at the tokens that show the item of an
    answer: the mean of -log(weight on them) over the answers' characters. Where a time is said,
    heads of the last layer are to look there too, see ``time_loss``.

    Args:
        prefix: The prompt's.
        passage: Its ``looks`` and ``time_looks``.
        batch: ``item``, ``sought``, ``reads``, ``types`` and ``labels``, as ``clips_batch`` says.

    Returns:
        That of all answers in the last layer but one, and that of times in the last.
    """
    shown = batch["item"].flatten(2)[:, prefix.frame, prefix.token]  # (clips, prefix)
    is_sought = shown[:, None, None] == batch["sought"][..., None]
    found = is_sought & (batch["reads"][:, :, prefix.frame] & (prefix.token >= 0))[:, :, None]
    rows = (batch["sought"] != IGNORE) & found.any(-1)
    is_time = torch.isin(batch["types"], torch.tensor([TYPES.index(name) for name in TIMED]))
    number = (batch["labels"] != IGNORE).long().cumsum(-1) - 1
    looks, times = (each.permute(0, 2, 3, 1, 4) for each in (passage.looks, passage.time_looks))
    loss, time = looks.sum() * 0.0, times.sum() * 0.0
    timed = rows & is_time[..., None]
    if bool(rows.any()):
        half = looks[rows][:, : looks.shape[3] // 2].float()
        loss = -_log((half * found[rows][:, None]).sum(-1)).mean()
    if bool(timed.any()):
        time = time_loss(times[timed].float(), found[timed], number[timed], prefix)
    return loss, time


def name_loss(passage: Passage, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return how little heads look at the words that name what is sought, while the answer is said.

    Half of the heads of the layer above the probed ones, over all tokens of answers whose question
    names anything; where it names two things, at both alike.

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
    own = named[:, :, None].expand(*rows.shape, -1)[rows][:, None].float()  # (n, 1, length)
    num = own.sum(-1, keepdim=True)
    return -(_log(half * num) * own / num).sum(-1).mean()


def time_loss(
    looks: torch.Tensor, found: torch.Tensor, number: torch.Tensor, prefix: Prefix
) -> torch.Tensor:
    """Return how little the heads of a time's sign look where it is told, and how much others do.

    A picture token knows both signs of its frame's time, so which one is said is settled by which
    head brings it: its own look at what is found, the others at no picture at all.

    Args:
        looks: Weights (n, heads, prefix length) of the tokens of times.
        found: (n, prefix length) whether the time is told there.
        number: (n) which sign follows, from 1; before it stands a space, which is no head's.
        prefix: The prompt's.
    """
    signs = torch.tensor(SIGN_OF_HEAD)[: looks.shape[1]]
    is_own = torch.zeros(looks.shape[:2], dtype=torch.bool)
    is_own[:, : len(signs)] = signs == number[:, None] - 1
    told = (looks * found[:, None]).sum(-1)
    elsewhere = 1 - (looks * (prefix.token >= 0)).sum(-1).clamp(max=1)
    is_other = ~is_own & (number > 0)[:, None]
    return -_log(told)[is_own].mean() - _log(elsewhere)[is_other].mean()


def copy_loss(
    model: LlavaNextForConditionalGeneration,
    prefix: Prefix,
    passage: Passage,
    batch: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Return how badly the heads of each sign would say it of a picture token they look at.

    The cross entropy of what the last layer brings from there alone, read out as at the end, among
    the signs of the clip's own frames and all that differ from one of them by a digit: so what
    answers of a few questions teach is taught by every token. Among all signs, the commonest was
    learnt, and said of every frame; among those of the frames alone, only the digits that differ
    between them. Half of it is of what is brought divided by its own size, which is how its
    direction is learnt; by that alone it was right and a tenth of the rest, so half of it is
    divided by the size of what it is added to in answers, among which it has to be heard.

    Args:
        model: The model.
        prefix: The prompt's.
        passage: Its ``rows``, ``looked_at`` and ``sizes``.
        batch: ``stamp``, ``signs`` and ``labels``, as ``clips_batch`` says.
    """
    states = passage.looked_at
    if not states.shape[1]:
        return states.sum() * 0.0
    language = model.model.language_model
    layer, heads = language.layers[-1], language.config.num_attention_heads
    sign_of_head = torch.tensor(SIGN_OF_HEAD)[:heads]
    of_heads = slice(len(sign_of_head))
    values = layer.self_attn.v_proj(layer.input_layernorm(states)).unflatten(-1, (heads, -1))
    output = layer.self_attn.o_proj.weight.unflatten(1, (heads, -1)).to(values.dtype)
    brought = torch.einsum("cnhd,ehd->cnhe", values[:, :, of_heads], output[:, of_heads])
    stamp, size = batch["stamp"], passage.sizes[batch["labels"] != IGNORE].mean()
    said = torch.stack(
        [brought[:, :, sign_of_head == n].sum(2) for n in range(stamp.shape[1])], dim=2
    )
    heard = language.norm.weight * said / size
    loss = states.sum() * 0.0
    for number, (own, signs) in enumerate(zip(stamp.T, batch["signs"], strict=True)):
        ids = signs[signs != IGNORE]
        wanted = torch.searchsorted(ids, own.contiguous())[prefix.frame[passage.rows]].expand(
            len(states), -1
        )
        alone = F.rms_norm(heard[:, :, number].float(), heard.shape[-1:])
        for each in (heard[:, :, number], alone):
            logits = F.linear(each, model.lm_head.weight[ids]).float()
            loss = loss + F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    return loss / (2 * stamp.shape[1])


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
    """Return how little some picture tokens look at their own frame's timestamp.

    Args:
        prefix: The prompt's.
        passage: Its ``rows`` and ``seen_from``.
        stamp: (frames, 2) ids, all ``IGNORE`` without timestamps.
    """
    weights = passage.seen_from
    if not weights.shape[2]:
        return weights.sum() * 0.0
    signs = torch.tensor(SIGN_OF_HEAD)[: weights.shape[1]]
    places = sign_places(prefix, stamp)[prefix.frame[passage.rows]].T[signs]  # (heads, n)
    index = places.expand(len(weights), -1, -1)[..., None]
    return -_log(weights[:, : len(signs)].float().gather(-1, index)).mean()


def sign_places(prefix: Prefix, stamp: torch.Tensor) -> torch.Tensor:
    """Return where in the prefix each frame's timestamp has its signs (frames, 2).

    They stand before the picture, with one token behind them.
    """
    num_frames, num_signs = stamp.shape
    first = (prefix.frame == torch.arange(num_frames)[:, None]).int().argmax(1, keepdim=True)
    return first - 1 - num_signs + torch.arange(num_signs)


def _log(weights: torch.Tensor) -> torch.Tensor:
    return (weights + _LEAST).log()
