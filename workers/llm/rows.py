"""Questions about one prefix as rows: its keys and values are held once, each row's own behind it.

A forward pass takes the next tokens of several rows as one sequence. Linear layers work on all of
them at once; attention takes one row after another, each over exactly the keys and values that it
would see alone. So there is no padding, and no mask by which a row could tell what is beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "sdpa_row_by_row"
EACH_ITS_OWN = torch.empty(1, 1, 0, 0)
"""An attention mask that has each row attend to what comes before it."""
MOST_QUERIES = 1024
"""Tokens of a row that attend under one mask, which has as many rows."""
_STEP = 64
"""Tokens by which buffers grow."""


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One question: its place in the buffers, and the tokens that were read behind the prefix.

    ``kept`` are the places of the prefix (ascending, int64) that layers from some on hold of it,
    None where all do, or before the first reading. They are chosen by what the last of the first
    ``num_question`` tokens attends to, with 0 the last that is read at first.
    """

    slot: int
    length: int = 0
    num_question: int = 0
    kept: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Tokens that a row is to read next: ``num_tokens`` from place ``first`` of the pass on.

    Behind the prefix the row holds ``start`` tokens before them. ``observe`` is told the start of
    some of them, their queries (1, heads, tokens, size), the keys that they see, the mask and the
    scaling. ``places`` (length,) are where the row's tokens stand in its whole sequence, if that
    has gaps.
    """

    slot: int
    first: int
    num_tokens: int
    start: int
    observe: Callable[..., None] | None = None
    places: torch.Tensor | None = None

    @property
    def end(self) -> int:
        """Place in the pass behind the last of them."""
        return self.first + self.num_tokens

    @property
    def length(self) -> int:
        """Tokens of the row once they are read."""
        return self.start + self.num_tokens

    def parts(self, num_tokens: int) -> list["Reading"]:
        """Cut it into readings of so many tokens, one after another."""
        return [
            replace(
                self,
                first=self.first + skipped,
                start=self.start + skipped,
                num_tokens=min(num_tokens, self.num_tokens - skipped),
            )
            for skipped in range(0, self.num_tokens, num_tokens)
        ]


def make_readings(
    rows: Sequence[Row], starts: Sequence[int], counts: Sequence[int]
) -> list[Reading]:
    """Return what each row reads in a pass over so many tokens of each, one behind another."""
    ends = accumulate(counts)
    return [
        Reading(slot=row.slot, first=end - count, num_tokens=count, start=start)
        for row, start, count, end in zip(rows, starts, counts, ends, strict=True)
    ]


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of a prefix, and of rows that go on from it.

    What is read first is the prefix. It is never written to again, so that a forward pass that
    fails spoils nothing, and may be made again.

    Memory: the prefix once, with room for the longest row and up to 64 tokens; every row once.
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_RowLayer)

    def add_layers(self, num_layers: int) -> None:
        """Hold that many layers in all; those that read no prefix hold rows only."""
        while len(self.layers) < num_layers:
            self.layers.append(self.layers[0].without_prefix())

    @contextmanager
    def reading(
        self, readings: Sequence[Reading], special: Mapping[int, Sequence[Reading]] | None = None
    ) -> Iterator[None]:
        """Let the forward pass inside, of batch size 1, read on in rows.

        Tokens behind the last reading's belong to no row: they attend to nothing. Layers named in
        ``special`` take the readings there.
        """
        for place, layer in enumerate(self.layers):
            layer.readings = (special or {}).get(place, readings)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.readings = ()

    def forget_rows(self) -> None:
        """Give back what the rows took."""
        for layer in self.layers:
            layer.forget_rows()


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of a :class:`RowCache`: ``_held`` is the prefix and behind it the row in work."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: Sequence[Reading] = ()
        self._num_prefix = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self._held = torch.cat([key_states, value_states])  # (2, heads, length, size)
        self._num_prefix = key_states.shape[2]
        self.forget_rows()
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **options: Any
    ) -> Any:
        """Take the states (1, heads, length, size) of a prefix, or those of the readings.

        Returns:
            Keys and values; where there are readings, twice what yields each with its own.
        """
        if not self.readings:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        self._store(torch.cat([key_states, value_states]))
        rows = self._rows(self.readings)
        return rows, rows

    def without_prefix(self) -> "_RowLayer":
        layer = _RowLayer()
        layer.lazy_initialization(*self._held[:, :, :0].split(1))
        return layer

    def forget_rows(self) -> None:
        self._tails = self._held.new_empty(0, 2, self._held.shape[1], 0, self._held.shape[3])

    def get_seq_length(self) -> int:
        return self._num_prefix + (self.readings[0].start if self.readings else 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def _store(self, states: torch.Tensor) -> None:
        """Write states (2, heads, tokens, size) to the ends of the rows that they belong to."""
        self._make_room()
        slots = [each.slot for each in self.readings for _ in range(each.num_tokens)]
        places = [i for each in self.readings for i in range(each.start, each.length)]
        self._tails[slots, :, :, places] = states[:, :, : len(slots)].permute(2, 0, 1, 3)

    def _rows(
        self, readings: Sequence[Reading]
    ) -> Iterator[tuple[Reading, torch.Tensor, torch.Tensor]]:
        """Yield each reading with its row's keys and values (1, heads, length, size).

        They are views that hold until the next are asked for.
        """
        for reading in readings:
            seen = self._tails[reading.slot, :, :, : reading.length]
            if self._num_prefix:
                end = self._num_prefix + reading.length
                self._held[:, :, self._num_prefix : end] = seen
                seen = self._held[:, :, :end]
            yield reading, seen[:1], seen[1:]

    def _make_room(self) -> None:
        """Let the buffers hold what the rows come to."""
        slots = max(each.slot for each in self.readings) + 1
        length = max(each.length for each in self.readings)
        if self._num_prefix and self._num_prefix + length > self._held.shape[2]:
            self._held = _grown(self._held, self._num_prefix, self._num_prefix + length + _STEP)
        num_slots, *_, room, _ = self._tails.shape
        if slots > num_slots:
            old = self._tails
            self._tails = old.new_empty(slots, *old.shape[1:])
            self._tails[:num_slots] = old
        if length > room:
            self._tails = _grown(self._tails, room, length + _STEP)


def _grown(buffer: torch.Tensor, length: int, room: int) -> torch.Tensor:
    """Return the first ``length`` tokens of a buffer (..., tokens, size) in one with more room."""
    grown = buffer.new_empty(*buffer.shape[:-2], room, buffer.shape[-1])
    grown[..., :length, :] = buffer[..., :length, :]
    return grown


def attend_by_row(model: Any) -> None:
    """Let a model on SDPA work with a :class:`RowCache`; with any other cache it stays as it is.

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
            output[:, part.first : part.end], _ = sdpa_attention_forward(
                module, queries, keys, values, mask, **options
            )
    return output, None


def _parts(reading: Reading, length: int, window: int | None) -> list[Reading]:
    """Cut a reading up where the mask over its row's keys of that length would be large."""
    needs_none = window is None and reading.num_tokens == length
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
