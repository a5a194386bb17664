"""Where the keys and values of rows and of the prefix that they share are held."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from workers.llm.rows import Reading

_STEP = 64
"""Tokens by which buffers grow."""


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of a prefix, and of rows that go on from it.

    What is read first is the prefix. It is never written to again, so that a forward pass that
    fails spoils nothing, and may be made again.

    Memory: the prefix once, with room for the longest row and up to 64 tokens; every row once.

    Args:
        prefix: the prefix as a reading, where it attends as a row does.
    """

    def __init__(self, prefix: Reading | None = None) -> None:
        super().__init__(layer_class_to_replicate=partial(_RowLayer, prefix))

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

    def __init__(self, prefix: Reading | None = None) -> None:
        super().__init__()
        self.readings: Sequence[Reading] = ()
        self._prefix = prefix
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
            if self._prefix is None:
                return key_states, value_states
            return (own := [(self._prefix, key_states, value_states)]), own
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
