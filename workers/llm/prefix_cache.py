"""The prefixes that the language model has read, so that the next question need not read them."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class PrefixCache(Generic[Entry]):
    """Entries of so many tokens each; those used longest ago make room for new ones.

    Args:
        max_tokens: held in all; one entry alone may be larger.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._entries: OrderedDict[Hashable, tuple[Entry, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    @property
    def num_tokens(self) -> int:
        """Tokens held in all."""
        return sum(num_tokens for _, num_tokens in self._entries.values())

    def get(self, key: Hashable) -> Entry | None:
        """Return an entry, which is then the one used last, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def reserve(self, num_tokens: int) -> None:
        """Drop entries until there is room for this many tokens, or none is left.

        To be called before the new entry is made: both need memory.
        """
        while self._entries and self.num_tokens + num_tokens > self._max_tokens:
            self._entries.popitem(last=False)

    def put(self, key: Hashable, entry: Entry, num_tokens: int) -> None:
        """Hold an entry."""
        self._entries.pop(key, None)
        self.reserve(num_tokens)
        self._entries[key] = (entry, num_tokens)

    def drop(self, key: Hashable) -> None:
        """Forget an entry, if it is held."""
        self._entries.pop(key, None)
