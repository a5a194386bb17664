"""FastV inside the language model: from layer K on, fewer visual tokens are computed and cached."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pruner.fastv import fastv
from workers.llm.context import check_layer as check_layer

_ATTENTION = "sdpa_with_last_row"


class LayerPruning:
    """One prompt's visual tokens, thinned out at the entrance of layer K.

    FastV (ECCV 2024, arXiv 2403.06764), in the way of its published code for transformers: kept
    tokens keep their positions, layers below K cache the whole prompt and the others what is kept,
    tokens generated later prune nothing more.

    Departures: all layers run transformers' SDPA, and only the last query's row is computed beside
    it, in layer K - 1 and in float32; the published code runs eager attention everywhere. The mask
    of layers with a sliding window is gathered, so that the window still counts original places.

    Works on decoders whose layers have a ``self_attn`` that hands unknown keywords on to its
    attention function, as Llama, Mistral, Qwen2 and Granite have. One sequence at a time; not
    reentrant.

    Args:
        model: the language model, on SDPA, with or without its head.
        layer: K, the first layer (0-based) that works on the kept tokens only.
        is_visual: (length,) bool, over the whole prompt.
        num_keep: visual tokens that go on; all where there are no more.
    """

    def __init__(self, model: Any, *, layer: int, is_visual: torch.Tensor, num_keep: int) -> None:
        layers = model.base_model.layers
        self._before, self._after = layers[layer - 1], layers[layer:]
        self._is_visual = is_visual.to(model.device)
        self._num_keep = min(num_keep, int(is_visual.sum()))
        self._last_row = torch.empty(0)
        self._keep_indices = torch.empty(0, dtype=torch.int64)

    @property
    def keep_indices(self) -> torch.Tensor:
        """Places in the prompt that go on after layer K, ascending; empty before the prefill."""
        return self._keep_indices

    @property
    def kept_visual(self) -> torch.Tensor:
        """The same, visual tokens only, as places among the visual tokens."""
        places = self._is_visual.cumsum(0) - 1
        return places[self._keep_indices[self._is_visual[self._keep_indices]]]

    @contextmanager
    def prefill(self) -> Iterator[None]:
        """Prune in the forward pass of the whole prompt made inside; then undo all changes.

        Cost: beside SDPA O(heads length head_size) for the row.
        """
        AttentionInterface.register(_ATTENTION, _attend)
        attention = self._before.self_attn
        config = attention.config
        with ExitStack() as undo:
            undo.callback(setattr, attention, "config", config)
            attention.config = copy(config)  # that of this one layer: the masks stay SDPA's
            attention.config._attn_implementation = _ATTENTION
            undo.enter_context(_hook(attention, self._ask_for_row))
            undo.enter_context(_hook(self._after[0], self._choose))
            for layer in self._after:
                undo.enter_context(_hook(layer, self._gather))
            yield

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Let the forward passes inside continue from the cache that the prefill left.

        The model makes one mask for all layers, as long as the cache of layer 0; where it makes
        one, layers from K on get its columns for what they hold.
        """
        with ExitStack() as undo:
            for layer in self._after:
                undo.enter_context(_hook(layer, self._narrow))
            yield

    def _ask_for_row(self, module: Any, args: Any, options: Any) -> tuple[Any, Any]:
        return args, options | {"take_last_row": self._take_row}

    def _take_row(self, row: torch.Tensor) -> None:
        self._last_row = row

    def _choose(self, module: Any, args: Any, options: Any) -> tuple[Any, Any]:
        self._keep_indices = fastv(
            self._last_row, is_visual=self._is_visual, num_keep=self._num_keep
        )
        hidden_states, *others = args
        return (hidden_states[:, self._keep_indices], *others), options

    def _gather(self, module: Any, args: Any, options: Any) -> tuple[Any, Any]:
        keep = self._keep_indices
        mask = options["attention_mask"]
        return args, options | {
            "position_ids": options["position_ids"][:, keep],
            "position_embeddings": tuple(part[:, keep] for part in options["position_embeddings"]),
            "attention_mask": None if mask is None else mask[:, :, keep][..., keep],
        }

    def _narrow(self, module: Any, args: Any, options: Any) -> tuple[Any, Any]:
        mask = options["attention_mask"]
        if mask is None:
            return args, options
        later = torch.arange(len(self._is_visual), mask.shape[-1], device=mask.device)
        held = torch.cat([self._keep_indices, later])
        return args, options | {"attention_mask": mask[..., held]}


@contextmanager
def _hook(module: Any, change: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    take_last_row: Any,
    scaling: float,
    **options: Any,
) -> Any:
    """Attend as SDPA does, and hand over the last query's softmax row (heads, length)."""
    grouped = query[0, :, -1].unflatten(0, (key.shape[1], -1))  # (key heads, group, size)
    logits = grouped.float() @ key[0].float().transpose(-1, -2) * scaling
    if attention_mask is not None:
        logits = logits.masked_fill(~attention_mask[0, :, -1:], float("-inf"))
    take_last_row(logits.softmax(dim=-1).flatten(0, 1))
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
