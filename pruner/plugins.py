"""Methods that other distributions add: entry points of the group ``mr_stream.pruners``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from pruner.method import Method

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torch import Tensor

    from pruner.ranking import Ranking

GROUP = "mr_stream.pruners"
_SCOPES = ("frame", "share", "clip")


class PluginError(ValueError):
    """A method of another distribution that cannot be used; its text names both in one line."""


class MethodTable(Mapping[str, "Method"]):
    """This project's methods, and behind them those of installed distributions, by name.

    A distribution adds the method ``mine`` with an entry point ``mine = "package.module:METHOD"``,
    where ``METHOD`` is a `Method` of that name and of scope ``frame``, ``share`` or ``clip``. It is
    imported when it is first looked up, so that what nobody uses costs nothing and breaks nothing.

    Args:
        own: this project's.

    Raises:
        PluginError: on looking up a method that cannot be imported or used, or a name that is given
            twice.
    """

    def __init__(self, own: Iterable[Method]) -> None:
        self._own = {method.name: method for method in own}
        self._added: dict[str, list[EntryPoint]] = {}
        for entry in _entry_points():
            self._added.setdefault(entry.name, []).append(entry)
        self._loaded: dict[str, Method] = {}
        self._lock = RLock()

    def __getitem__(self, name: str) -> Method:
        if name not in self._added:
            return self._own[name]
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *sorted(self._added)]))

    def __len__(self) -> int:
        return len(self._own.keys() | self._added)

    def _load(self, name: str) -> Method:
        """Import an added method."""
        first, *others = self._added[name]
        if others or name in self._own:
            by = " and ".join(sorted(map(_origin, self._added[name])))
            taken = "several have that name" if others else "the name is taken"
            raise PluginError(f"the method {name!r} that {by} adds is refused: {taken}")
        try:
            return replace(_checked(first, first.load()), origin=_origin(first))
        except Exception as error:  # whatever its module does
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(
                f"the method {name!r} that {_origin(first)} adds cannot be used: {reason}"
            ) from None


def _entry_points() -> Iterable[EntryPoint]:
    """Return the group's entry points; where no file names it, without importlib.metadata.

    Importing that takes twenty times as long as to look, a quarter of the time of ``--help``.
    """
    folders = [Path(place or ".") for place in sys.path]
    files = (file for folder in folders for file in folder.glob("*-info/entry_points.txt"))
    if not any(map(_names_group, files)):
        return ()
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _names_group(file: Path) -> bool:
    try:
        return GROUP.encode() in file.read_bytes()
    except OSError:
        return False


def _checked(entry: EntryPoint, method: object) -> Method:
    """Return what an entry point names, if it is a method of its name that can be called."""
    if not isinstance(method, Method):
        raise TypeError(f"{entry.value} is no pruner.Method")
    if method.name != entry.name:
        raise ValueError(f"{entry.value} is named {method.name!r}")
    if method.scope not in _SCOPES:
        raise ValueError(f"{method.scope = } is none of {', '.join(_SCOPES)}")
    if not callable(method.load()):
        raise TypeError(f"{method.function} is no function")
    return method


def _origin(entry: EntryPoint) -> str:
    """Return the distribution that an entry point is of, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def check_ranking(method: Method, ranking: Ranking, num_frames: int, num_tokens: int) -> None:
    """Refuse a ranking by an added method that is none of every token of F frames.

    Raises:
        PluginError: names the method.
    """
    import torch

    every = torch.arange(num_tokens).expand(num_frames, -1)
    if not torch.equal(ranking.order.sort(dim=1).values.cpu(), every):
        raise PluginError(
            f"the method {method.name!r} that {method.origin} adds does not rank each of the "
            f"{num_tokens} tokens of {num_frames} frames: {tuple(ranking.order.shape) = }"
        )


def check_kept(
    method: Method,
    kept: Sequence[tuple[Tensor | None, Tensor]],
    shares: Sequence[int],
    num_tokens: int,
) -> None:
    """Refuse what an added method keeps if that is more or less than it may, or no tokens.

    Raises:
        PluginError: names the method.
    """
    counts = [len(indices) for _, indices in kept]
    fits = all(
        bool((indices.diff() > 0).all())
        and (indices[:1] >= 0).all()
        and (indices < num_tokens).all()
        for _, indices in kept
    )
    if not fits or len(counts) != len(shares) or sum(counts) != sum(shares):
        raise PluginError(
            f"the method {method.name!r} that {method.origin} adds does not keep {sum(shares)} "
            f"tokens of {len(shares)} frames, ascending and below {num_tokens}: {counts = }"
        )
