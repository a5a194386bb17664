"""Objects that live in a process of their own, which may be killed when it takes too long."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from workers.errors import StreamError, WorkerError

_START_SECONDS = 1800.0
_STOP_SECONDS = 30.0
_LONGEST_SECONDS = 1e6
"""The system waits for no pipe longer than 2^31 milliseconds."""


class ChildEndedError(WorkerError):
    """The process is gone; what it was doing has no result."""


class Child:
    """Makes an object in a process of its own and calls its methods there, one at a time.

    So each has its own memory, and one that runs out of it takes no other along.

    Args:
        make: makes the object; it and all arguments and results can be pickled.

    Raises:
        ChildEndedError: the process died.
        StreamError: what ``make`` raised.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=False)
        begin = time.perf_counter()
        self._process.start()
        theirs.close()
        self._is_busy = True
        try:
            self._receive(_START_SECONDS)
        except BaseException:  # nobody else could end the process: it is in no one's hands yet
            self.close()
            raise
        self.start_seconds = time.perf_counter() - begin
        """From the start of the process until the object is made."""

    def call(self, method: str, *args: Any, deadline: float | None = None) -> Any:
        """Return what a method returns.

        Args:
            method: its name.
            args: for it.
            deadline: seconds after which the process is killed; never if None or above 1e6.

        Raises:
            ChildEndedError: the process died or was killed.
            StreamError: what the method raised.
        """
        self._is_busy = True
        try:
            self._pipe.send((method, args))
        except OSError:
            raise self._ended() from None
        return self._receive(deadline)

    def close(self) -> None:
        """End the process, whatever it is at, by force if need be; may be called twice."""
        if self._is_busy:
            self._process.terminate()
        else:
            with suppress(OSError):
                self._pipe.send(None)
        self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()

    def _receive(self, deadline: float | None) -> Any:
        if deadline is not None and deadline > _LONGEST_SECONDS:
            deadline = None
        if not self._pipe.poll(deadline):
            self._process.kill()
            self._process.join()
            raise ChildEndedError(f"took more than {deadline:g} s")
        try:
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        self._is_busy = False
        if error is not None:
            raise error
        return result

    def _ended(self) -> ChildEndedError:
        self._process.join()
        code = self._process.exitcode or 0
        if -code == signal.SIGKILL:
            return ChildEndedError("was killed: out of memory, as far as can be told")
        return ChildEndedError(f"its process ended with status {code}")


def _serve(pipe: Connection, make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes us
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.stdout = sys.stderr
    made: Any = None

    def answer(work: Callable[[], Any]) -> None:
        try:
            result = work()
        except StreamError as error:
            pipe.send((None, error))
        except (MemoryError, RuntimeError) as error:
            pipe.send((None, WorkerError(" ".join(str(error).split()) or type(error).__name__)))
        else:
            pipe.send((result, None))

    def start() -> None:
        nonlocal made
        made = make()

    answer(start)
    try:
        while made is not None and (request := pipe.recv()) is not None:
            method, args = request
            answer(partial(getattr(made, method), *args))
    except EOFError:  # whoever asked is gone
        pass
    finally:
        if made is not None:
            made.close()
