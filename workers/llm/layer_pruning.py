"""Pruning inside the language model: from layer K on, each question has its own visual tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from pruner.fastv import fastv
from pruner.question_aware import question_aware
from pruner.runs import cut_runs, make_run
from workers.arrays import unpack
from workers.llm.proportional import SizedTokens
from workers.llm.row_attention import EACH_ITS_OWN
from workers.llm.row_cache import RowCache
from workers.llm.rows import Reading, Row, make_readings
from workers.visual import VisualSequence


class LayerPruning:
    """A clip at the entrance of layer K, where each question keeps some of its visual tokens.

    Layers below K read the clip once for all questions: what they make of it depends on none. A
    question reads on from there, and by its attention in layer K - 1 some visual tokens are kept.
    These and all text enter the layers from K on together with the question, and are all of the
    clip that those layers compute and hold. Where tokens have sizes, each is chosen for itself
    alone, and those kept get the sizes of the others. Tokens keep their positions; tokens that are
    generated later prune nothing more.

    As the published code of FastV (ECCV 2024, arXiv 2403.06764) does it, but for what is shared:
    there every question takes the whole clip through the first layers anew.

    Departures: all layers run transformers' SDPA, and the attention that is looked at is computed
    beside it, in layer K - 1 and in float32; the published code runs eager attention everywhere. A
    sliding window still counts original places.

    Works on decoders whose base model has ``layers`` and a ``norm`` behind them, as Llama, Mistral,
    Qwen2 and Granite have.

    Args:
        visual: what is shown of the clip, with its layer K and how many of its tokens go on.
        hidden: (1, length, hidden) what layer K - 1 makes of the clip's text and visual tokens.
        position_ids: (1, length).
        is_visual: (length,) bool.
        sized: the visual tokens, if they have sizes.
    """

    def __init__(
        self,
        visual: VisualSequence,
        hidden: torch.Tensor,
        position_ids: torch.Tensor,
        is_visual: torch.Tensor,
        sized: SizedTokens | None = None,
    ) -> None:
        if visual.prune_layer is None:
            raise ValueError(f"nothing is pruned inside the model: {visual}")
        self.layer = visual.prune_layer
        num_visual = int(is_visual.sum())
        num_keep = min(visual.num_keep, num_visual)
        self.num_kept = len(is_visual) - num_visual + num_keep
        """Tokens of the clip, text included, that a question holds in layers from K on."""
        self._choice = _choice(visual, is_visual, num_keep)
        self._sized = sized
        self._hidden, self._position_ids, self._is_visual = hidden, position_ids, is_visual

    def visual_places(self, row: Row) -> torch.Tensor:
        """Return the visual tokens that a row keeps, as places among the visual tokens."""
        places, kept = self._is_visual.cumsum(0) - 1, _kept(row)
        return places[kept[self._is_visual[kept]]]

    @contextmanager
    def choosing(
        self, rows: Sequence[Row], readings: Sequence[Reading], cache: RowCache
    ) -> Iterator[None]:
        """Choose for rows that read their first tokens in the pass through the layers below K."""
        watched = [
            each if row.length else replace(each, observe=self._chooser(row, each.num_tokens))
            for row, each in zip(rows, readings, strict=True)
        ]
        with cache.reading(readings, {self.layer - 1: watched}):
            yield

    def readings(self, rows: Sequence[Row], readings: Sequence[Reading]) -> list[Reading]:
        """Return what rows read in layers from K on: at first what they keep, then as below."""
        starts = [self.num_kept + row.length if row.length else 0 for row in rows]
        counts = [
            each.num_tokens if row.length else self.num_kept + each.num_tokens
            for row, each in zip(rows, readings, strict=True)
        ]
        return [
            replace(each, places=self._places(row, each.length), bias=row.bias)
            for row, each in zip(rows, make_readings(rows, starts, counts), strict=True)
        ]

    def enter(
        self,
        rows: Sequence[Row],
        readings: Sequence[Reading],
        hidden: torch.Tensor,
        position_ids: torch.Tensor,
    ) -> dict[str, Any]:
        """Return what goes into layer K: before a row's first tokens what it keeps."""
        states, positions = [], []
        for row, each in zip(rows, readings, strict=True):
            if not row.length:
                states.append(self._hidden[:, _kept(row)])
                positions.append(self._position_ids[:, _kept(row)])
            states.append(hidden[:, each.first : each.end])
            positions.append(position_ids[:, each.first : each.end])
        states.append(hidden[:, readings[-1].end :])
        positions.append(position_ids[:, readings[-1].end :])
        return {
            "input_ids": None,
            "inputs_embeds": torch.cat(states, dim=1),
            "position_ids": torch.cat(positions, dim=1),
            "attention_mask": EACH_ITS_OWN,
        }

    def _chooser(self, row: Row, num_tokens: int) -> Callable[..., None]:
        """Return what chooses once it is told of the query that a row chooses by."""
        place = (row.num_question or num_tokens) - 1

        def choose(
            start: int,
            queries: torch.Tensor,
            keys: torch.Tensor,
            mask: torch.Tensor | None,
            scaling: float,
        ) -> None:
            own = place - start
            if 0 <= own < queries.shape[2]:
                seen = None if mask is None else mask[0, :, own : own + 1]
                attention = _attention(queries[0, :, own], keys[0], seen, scaling)
                row.kept = self._choice(attention[:, : len(self._is_visual)])
                row.bias = self._sized.log_sizes(row.kept) if self._sized else None

        return choose

    def _places(self, row: Row, length: int) -> torch.Tensor:
        """Return where a row's tokens of layers from K on stand in the whole sequence (length,)."""
        num_prefix, kept = len(self._is_visual), _kept(row)
        later = torch.arange(num_prefix, num_prefix + length - len(kept), device=kept.device)
        return torch.cat([kept, later])


def _choice(
    visual: VisualSequence, is_visual: torch.Tensor, num_keep: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what makes of attention (heads, length) the places that go on."""
    if visual.priority is None:
        return partial(fastv, is_visual=is_visual, num_keep=num_keep)
    features = unpack(visual.features, visual.dtype).to(is_visual.device)
    times = torch.from_numpy(visual.times).to(is_visual.device)
    # What is chosen one after another is chosen on the CPU; only what is compared is compared here.
    runs = [make_run(features, times, own).cpu() for own in cut_runs(visual.counts.tolist())]
    is_visual_here, priority = is_visual.cpu(), torch.tensor(visual.priority)

    def choose(attention: torch.Tensor) -> torch.Tensor:
        kept = question_aware(
            attention.cpu(),
            is_visual=is_visual_here,
            runs=runs,
            priority=priority,
            num_keep=num_keep,
            reserve=visual.reserve,
        )
        return kept.to(is_visual.device)

    return choose


def _kept(row: Row) -> torch.Tensor:
    if row.kept is None:
        raise RuntimeError(f"nothing has been chosen yet: {row = }")
    return row.kept


@contextmanager
def some_layers(model: Any, part: slice) -> Iterator[None]:
    """Let forward passes inside go through some layers only, from hidden states to hidden states.

    What goes into the first is multiplied as ever, where a model does that to embeddings (Granite),
    and what comes out of the last is normalised; in between neither is.
    """
    base = model.base_model
    layers = base.layers
    changes = {"layers": layers[part]}
    if changes["layers"][0] is not layers[0] and hasattr(base, "embedding_multiplier"):
        changes["embedding_multiplier"] = 1.0
    if changes["layers"][-1] is not layers[-1]:
        changes["norm"] = nn.Identity()
    before = {name: getattr(base, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(base, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(base, name, value)


def _attention(
    query: torch.Tensor, key: torch.Tensor, seen: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Return the softmax row (heads, length) of one query.

    Args:
        query: (heads, size).
        key: (key heads, length, size).
        seen: bool, broadcast to (heads, 1, length); all are if None.
        scaling: of the products.
    """
    grouped = query.unflatten(0, (len(key), -1))  # (key heads, group, size)
    logits: torch.Tensor = grouped.float() @ key.float().transpose(-1, -2) * scaling
    if seen is not None:
        logits = logits.masked_fill(~seen, float("-inf"))
    return logits.softmax(dim=-1).flatten(0, 1)
