"""How long work for a client goes on: until it has left, or its time is over."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from streaming.serve.failures import RequestError

_LOOK_SECONDS = 0.25


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class Patience:
    """Asked now and then by whoever works for a client.

    Args:
        seconds: that the work may take.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._left = threading.Event()

    def leave(self) -> None:
        """Say that the client has left."""
        self._left.set()

    def check(self, *_: Any) -> None:
        """Return if the work is still wanted.

        Raises:
            ClientLeftError: nobody waits.
            RequestError: its time is over.
        """
        if self._left.is_set():
            raise ClientLeftError
        if time.monotonic() > self._end:
            raise RequestError(504, "timeout", "the answer took too long and was given up")

    def wait(self, future: "Future[Any]", meanwhile: Callable[[], object]) -> None:
        """Wait until something is done, doing another now and then; raises as :meth:`check`."""
        while not wait([future], timeout=_LOOK_SECONDS).done:
            self.check()
            meanwhile()

    def acquire(self, semaphore: threading.Semaphore) -> None:
        """Take a place; raises as :meth:`check` does."""
        while not semaphore.acquire(timeout=_LOOK_SECONDS):
            self.check()
