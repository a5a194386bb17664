"""What has happened of a stream, for any number of readers: the newest of it."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from streaming.serve.failures import RequestError

MOST_EVENTS = 256
MOST_READERS = 16
_RETRY_SECONDS = 5
_PULSE_SECONDS = 15.0
PULSE = b": \n\n"
"""Sent where nothing happens, so that who has left is noticed and no proxy gives up."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as a server-sent event."""

    number: int
    content: bytes


class EventLog:
    """A bounded log: whoever puts never waits, and who reads too slowly misses the oldest.

    Any thread may put.

    Args:
        most_events: that are held.
        most_readers: at a time.
    """

    def __init__(self, *, most_events: int = MOST_EVENTS, most_readers: int = MOST_READERS) -> None:
        self._events: deque[Event] = deque(maxlen=most_events)
        self._most_readers = most_readers
        self._lock = threading.Lock()
        self._num_events = 0
        self._is_closed = False
        self._wakers: list[Callable[[], object]] = []

    def put(self, kind: str, value: dict[str, Any], *, is_last: bool = False) -> None:
        """Add an event, unless there has been a last one."""
        with self._lock:
            if self._is_closed:
                return
            self._num_events += 1
            content = _written(kind, value, self._num_events)
            self._events.append(Event(self._num_events, content))
            self._is_closed = is_last
            wakers = list(self._wakers)
        for wake in wakers:
            with suppress(RuntimeError):  # a loop that is closed
                wake()

    async def read(self, after: int) -> AsyncGenerator[bytes, None]:
        """Yield nothing of note, then the events behind one of a number, up to the last.

        Raises:
            RequestError: at first, there are as many readers as there may be.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        with self._woken(lambda: loop.call_soon_threadsafe(changed.set)):
            yield PULSE
            after = min(after, self._num_events)
            while True:
                changed.clear()
                event, is_closed = self._behind(after)
                if event is None:
                    if is_closed:
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_PULSE_SECONDS):
                            await changed.wait()
                    if not changed.is_set():
                        yield PULSE
                    continue
                if event.number > after + 1:
                    yield _written("lost", {"num_events": event.number - after - 1})
                yield event.content
                after = event.number

    def is_over(self, after: int) -> bool:
        """Return whether no event comes behind one of a number any more."""
        return self._is_closed and after >= self._num_events

    def _behind(self, number: int) -> tuple[Event | None, bool]:
        """Return the oldest event that is held behind one, and whether there will be no more."""
        with self._lock:
            if number >= self._num_events:
                return None, self._is_closed
            first = self._events[0].number
            return self._events[max(0, number + 1 - first)], self._is_closed

    @contextmanager
    def _woken(self, wake: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            if len(self._wakers) >= self._most_readers:
                raise RequestError(
                    429,
                    "too_many_readers",
                    f"{self._most_readers} clients listen to this stream: let one of them go",
                    retry=_RETRY_SECONDS,
                )
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)


def _written(kind: str, value: dict[str, Any], number: int | None = None) -> bytes:
    """Return an event as it is sent: with a number, which a client that comes back tells."""
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
