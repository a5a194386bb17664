"""The one thread that a model is used by: whatever is asked at once is done one after another."""

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

import torch

from workers.process import set_num_threads

_Work = Callable[[], None]


class ModelThread:
    """Does work in the order it comes, in a thread of its own, which ends with this object.

    Nobody who waits for a result can hold it up: what is done does not depend on who reads it. Its
    operators take as many threads as those of the thread that makes it.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        # The thread holds the queue, not this object, so that a model nobody uses can go.
        arguments = (self._work, torch.get_num_threads())
        Thread(target=_work_through, args=arguments, name="model", daemon=True).start()
        weakref.finalize(self, self._work.put, None)

    def submit(self, work: _Work) -> None:
        """Have work done when its turn comes; it raises nothing."""
        self._work.put(work)


def _work_through(queue: "SimpleQueue[_Work | None]", num_threads: int) -> None:
    set_num_threads(num_threads)
    while work := queue.get():
        work()
        del work  # what it refers to may go while the thread waits
