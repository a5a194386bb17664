"""A reading process as its parent sees it: started, listened to, killed."""

import os
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from workers.video.live.order import ReadOrder
from workers.video.live.wire import Message, receive


class ReadingProcess:
    """Runs :mod:`workers.video.live.reader`; leaving the block kills it.

    It is in a session of its own, so that Ctrl-C is for the parent alone, and ends with it.

    Args:
        order: what it reads.
    """

    def __init__(self, order: ReadOrder) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.video.live.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=(order.pipe,) if order.pipe else (),
            start_new_session=True,
        )
        if self._process.stdin is not None:  # where no list of processes shows it
            with suppress(BrokenPipeError):
                self._process.stdin.write(order.to_text().encode() + b"\n")
                self._process.stdin.flush()  # and held open: its end is that of this process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def receive(self, silence_seconds: float) -> Message | None:
        """Return what it tells next; see :func:`workers.video.live.wire.receive`."""
        if self._process.stdout is None:
            raise RuntimeError("a process without its stdout")
        return receive(self._process.stdout.fileno(), silence_seconds)

    def kill(self) -> None:
        """End it, whatever it does; may be called from any thread, and twice."""
        self._process.kill()
