"""Attention of many questions behind one shared picture prefix: each sees the prefix and itself.

One clip's visual tokens are the costly part of a prompt. Its questions are laid out behind them in
blocks of one length; no block sees another, and positions start again at the end of the prefix in
each, so every question gets exactly what it would get alone.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface

NAME = "shared_prefix"
_SHORT = 256


def shared_prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    prefix_length: int,
    num_questions: int,
    looks: list[torch.Tensor] | None = None,
    rows: torch.Tensor | None = None,
    seen_from: list[torch.Tensor] | None = None,
    names: list[torch.Tensor] | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention's output (batch, tokens, heads, size), in transformers' interface.

    Args:
        module: Unused.
        query: (batch, heads, prefix_length + num_questions * length, size).
        key: Like ``query``: there are no grouped heads.
        value: Like ``query``.
        attention_mask: Unused: the layout says it all.
        scaling: Factor on the scores.
        prefix_length: Tokens every question sees.
        num_questions: Blocks behind them.
        looks: Gets the weights (batch, heads, num_questions * length, prefix_length) that the
            questions give the prefix.
        rows: (n), some tokens of the prefix.
        seen_from: Gets the weights (batch, heads, n, prefix_length) that ``rows`` give the prefix.
        names: Gets the weights (batch, heads, num_questions * length, length) that the questions
            give themselves.
        unused: What transformers passes besides.
    """
    # Split once and scaled while small: slices and large products are what takes time backwards.
    (ahead, asked), (shared, keys), (seen, values) = (
        part.split([prefix_length, part.shape[2] - prefix_length], dim=2)
        for part in (query * scaling, key, value)
    )
    prefix = _causal(ahead, shared, seen)
    if seen_from is not None and rows is not None:
        later = torch.arange(prefix_length) > rows[:, None]
        scores = ahead[:, :, rows] @ shared.transpose(-1, -2)
        seen_from.append(scores.masked_fill(later, float("-inf")).softmax(dim=-1))
    blocks = (num_questions, -1)
    rows, keys, values = (part.unflatten(2, blocks) for part in (asked, keys, values))
    to_prefix = asked @ shared.transpose(-1, -2)
    to_self = rows @ keys.transpose(-1, -2)
    to_self = to_self.masked_fill(_future(rows.shape[3]), float("-inf")).flatten(2, 3)
    weights = torch.cat([to_prefix, to_self], dim=-1).softmax(dim=-1)
    if looks is not None:
        looks.append(weights[..., :prefix_length])
    if names is not None:
        names.append(weights[..., prefix_length:])
    on_prefix, on_self = weights.split([prefix_length, rows.shape[3]], dim=-1)
    said = on_self.unflatten(2, blocks) @ values
    output = torch.cat([prefix, on_prefix @ seen + said.flatten(2, 3)], dim=2)
    return output.transpose(1, 2), None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return causal attention of a scaled query; written out where short, which is faster."""
    length = query.shape[2]
    if length > _SHORT:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
    scores = query @ key.transpose(-1, -2)
    return scores.masked_fill(_future(length), float("-inf")).softmax(dim=-1) @ value


def _future(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def register() -> None:
    """Make the attention known to transformers under ``NAME``."""
    AttentionInterface.register(NAME, shared_prefix_attention)
