"""Answers made in threads, for the event loop to hand on; and how many there are at a time."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from streaming.serve.failures import RequestError
from streaming.serve.patience import Patience

T = TypeVar("T")
RETRY_SECONDS = 2
_END = object()


class Place:
    """Of one answer among those there may be: a context that gives it back, if nothing runs in it.

    Args:
        leave: gives it back.
    """

    def __init__(self, leave: Callable[[], object]) -> None:
        self._leave = leave
        self._is_run = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_run:
            self._leave()

    def run(self) -> None:
        """Say that the place is given back by what runs in it."""
        self._is_run = True


class Pump:
    """Runs generators in threads, so many at a time and no more.

    Args:
        most: at a time; others are told to come back.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._num = 0
        self.running = 0
        """Answers of which the first piece has come, also those that nobody waits for any more."""

    def enter(self) -> Place:
        """Take a place, before anything is taken that needs one.

        Raises:
            RequestError: there are as many as there may be; says when to come back.
        """
        with self._lock:
            if self._num >= self._most:
                raise RequestError(
                    429,
                    "too_many_requests",
                    f"{self._most} requests are being answered or wait: try again",
                    retry=RETRY_SECONDS,
                )
            self._num += 1
        return Place(lambda: self._count(-1, 0))

    async def run(
        self,
        make: Callable[[Callable[[T], None]], Generator[T, None, None]],
        patience: Patience,
        place: Place,
    ) -> AsyncGenerator[T, None]:
        """Yield what a generator yields; its work ends soon after this does.

        Args:
            make: returns it, and is given a function that yields something while it is at work.
            patience: of whoever waits.
            place: that was taken for it.

        Raises:
            Exception: what the generator raises.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def put(item: Any) -> None:
            with suppress(RuntimeError):  # a loop that is closed, whose client has gone
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            has_begun = 0
            try:
                with closing(make(lambda piece: put((piece, None)))) as pieces:
                    for piece in pieces:
                        put((piece, None))
                        self._count(0, 1 - has_begun)
                        has_begun = 1
                put((_END, None))
            except BaseException as error:
                put((_END, error))
            finally:
                self._count(-1, -has_begun)

        threading.Thread(target=work, name="answer", daemon=True).start()
        place.run()
        try:
            while True:
                piece, error = await queue.get()
                if error is not None:
                    raise error
                if piece is _END:
                    return
                yield piece
        finally:
            patience.leave()

    @property
    def waiting(self) -> int:
        """Answers of which nothing has come yet, also those whose questions are still coming."""
        return self._num - self.running

    def _count(self, num: int, running: int) -> None:
        with self._lock:
            self._num += num
            self.running += running
