"""What the workers of a run do, in numbers for whoever watches it from outside."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from workers.messages import EncodeNews, Note, ReadNews
from workers.run.queue import Unit
from workers.visual import KeptFrame

COUNTERS = {
    "stream_frames_total": ("Frames read or encoded", "stage"),
    "stream_tokens_kept_total": ("Visual tokens kept for language models", ""),
    "stream_stage_seconds_total": ("Busy seconds of workers", "stage"),
    "stream_retries_total": ("Workers that died and were replaced", "kind"),
    "stream_failures_total": ("Clips and questions that ended with an error", "kind"),
}
"""By name: what it counts, and by what it is told apart."""
GAUGES = {"stream_queue_depth": ("Units of work that wait for a worker", "kind")}


class Meter(Protocol):
    """Takes readings; a name is one of ``COUNTERS`` or ``GAUGES``."""

    def add(self, name: str, value: float, label: str = "") -> None:
        """Add to a counter."""

    def set(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""


class ClientMeter:
    """Hands readings to the counters and gauges of a metrics library.

    Args:
        counter: makes one of a name, ``description`` and ``tag_keys``; it has ``inc``.
        gauge: makes one in the same way; it has ``set``.
    """

    def __init__(self, counter: Callable[..., Any], gauge: Callable[..., Any]) -> None:
        self._metrics: dict[str, Any] = {
            name: make(name, description=text, tag_keys=(tag,) if tag else ())
            for make, table in ((counter, COUNTERS), (gauge, GAUGES))
            for name, (text, tag) in table.items()
        }

    def add(self, name: str, value: float, label: str = "") -> None:
        """Add to a counter; nothing is not added, which some libraries refuse."""
        if value > 0:
            self._metrics[name].inc(value, tags=_tags(COUNTERS, name, label))

    def set(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""
        self._metrics[name].set(value, tags=_tags(GAUGES, name, label))


def _tags(table: Mapping[str, tuple[str, str]], name: str, label: str) -> dict[str, str]:
    tag = table[name][1]
    return {tag: label} if tag else {}


class NoMeter:
    """Nobody watches."""

    def add(self, name: str, value: float, label: str = "") -> None:
        """Take no note."""

    def set(self, name: str, value: float, label: str = "") -> None:
        """Take no note."""


def readings(unit: Unit, note: Note) -> Iterator[tuple[str, float, str]]:
    """Yield what one result adds: counter, value, label."""
    for stage, seconds in note.seconds.items():
        yield "stream_stage_seconds_total", seconds, stage
    news = note.news
    if isinstance(news, EncodeNews):
        yield "stream_stage_seconds_total", sum(news.prune_seconds), "prune"
    if isinstance(news, ReadNews):
        yield "stream_frames_total", len(news.frame_indices), "read"
    elif hasattr(unit.request, "frame_indices"):
        yield "stream_frames_total", len(unit.request.frame_indices), "encode"
    elif isinstance(news, tuple) and all(isinstance(each, KeptFrame) for each in news):
        kept = sum(frame.num_visual_tokens for frame in news)
        yield "stream_tokens_kept_total", kept, ""
