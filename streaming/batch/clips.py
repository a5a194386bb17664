"""The clips of a manifest: all that is asked about one of them, together."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from streaming.batch.item import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """Everything that is asked about one clip, of which ``pending`` has no row yet.

    What is done already takes part in planning: the budget that the context leaves depends on the
    longest question, and must be the same after an interruption.
    """

    video: str
    items: tuple[Item, ...]
    pending: frozenset[Item]


def clip_tasks(items: Sequence[Item], done: Collection[tuple[str, int]]) -> Iterator[ClipTask]:
    """Yield the clips that have questions without a row, in the order of the manifest."""
    by_video: dict[str, list[Item]] = {}
    for item in items:
        by_video.setdefault(item.video, []).append(item)
    for video, group in by_video.items():
        pending = frozenset(item for item in group if item.name not in done)
        if pending:
            yield ClipTask(video=video, items=tuple(group), pending=pending)
