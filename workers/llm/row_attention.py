"""How rows attend: one after another, each to the prefix and to what it has read itself."""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workers.llm.rows import Reading

ATTENTION = "sdpa_row_by_row"
EACH_ITS_OWN = torch.empty(1, 1, 0, 0)
"""An attention mask that has each row attend to what comes before it."""
MOST_QUERIES = 1024
"""Tokens of a row that attend under one mask, which has as many rows."""


def attend_by_row(model: Any) -> None:
    """Let a model on SDPA work with a :class:`workers.llm.row_cache.RowCache`.

    With any other cache it works as before.

    Works on decoders whose layers hand what the cache returns on to their attention function, as
    those of Llama, Mistral, Qwen2 and Granite do.
    """
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: Any,
    value: Any,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> Any:
    """Attend as SDPA does, where there are rows in one after another."""
    if isinstance(key, torch.Tensor):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    _, heads, length, size = query.shape
    output = query.new_zeros(1, length, heads, size)
    for reading, row_key, row_value in key:
        window = options.get("sliding_window")
        for part in _parts(reading, row_key.shape[2], window):
            seen = slice(row_key.shape[2] - reading.length + part.length)
            keys, values = row_key[:, :, seen], row_value[:, :, seen]
            mask = attention_mask
            if mask is not None and not mask.numel():
                mask = _causal_mask(part, keys, window)
            queries = query[:, :, part.first : part.end]
            if part.observe is not None:
                part.observe(part.start, queries, keys, mask, options["scaling"])
            if part.bias is not None:
                mask = _biased(mask, part.bias, part.num_tokens, keys)
            output[:, part.first : part.end], _ = sdpa_attention_forward(
                module, queries, keys, values, mask, **options
            )
    return output, None


def _parts(reading: Reading, length: int, window: int | None) -> list[Reading]:
    """Cut a reading up where the mask over its row's keys of that length would be large."""
    needs_none = window is None and reading.bias is None and reading.num_tokens == length
    return [reading] if needs_none else reading.parts(MOST_QUERIES)


def _causal_mask(reading: Reading, key: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Return which keys (1, 1, tokens, length) the last of them see, as transformers would.

    None where that is all of them, or what SDPA makes of it for as many queries as keys.
    """
    num_tokens, length = reading.num_tokens, key.shape[2]
    if window is not None:
        given = reading.places
        places = torch.arange(length, device=key.device) if given is None else given[:length]
        distance = places[-num_tokens:, None] - places[None]
        return ((distance >= 0) & (distance < window))[None, None]
    if num_tokens in (1, length):
        return None
    seen = torch.ones(1, 1, num_tokens, length, dtype=torch.bool, device=key.device)
    return seen.tril(length - num_tokens)


def _biased(
    mask: torch.Tensor | None, bias: torch.Tensor, num_tokens: int, key: torch.Tensor
) -> torch.Tensor:
    """Return what is added to logits (1, 1, tokens, length): the bias, -inf where nothing is seen.

    Args:
        mask: bool (1, 1, tokens, length), None where the last tokens see all before them.
        bias: of the first keys.
        num_tokens: that attend, the last.
        key: (1, heads, length, size), in whose dtype it is returned.
    """
    length = key.shape[2]
    if mask is None:
        ones = torch.ones(1, 1, num_tokens, length, dtype=torch.bool, device=key.device)
        mask = ones.tril(length - num_tokens)
    padded = nn.functional.pad(bias[:length], (0, max(0, length - len(bias))))
    return padded.to(key.dtype).expand(mask.shape).masked_fill(~mask, float("-inf"))
