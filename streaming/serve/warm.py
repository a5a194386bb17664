"""Clips whose ranked tokens are held for the next question: each encoded once, whoever asks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from streaming.clip_plan import ClipPlan
from streaming.pipeline import WatchedClip, allocate
from streaming.serve.failures import RequestError
from streaming.serve.patience import Patience
from workers.errors import StreamError
from workers.run.clips import EncodedClip, Visual
from workers.run.engine import Engine
from workers.visual import Allocation

_MOST_VISUALS = 8
"""Budgets of a clip of which the sequence is held: what is shared out again takes milliseconds."""


@dataclass(slots=True, kw_only=True, eq=False)
class WarmClip:
    """A clip that is encoded; the sequences that were made of it are held for questions to share.

    Questions about one sequence are answered together, so they must be about the same one.
    """

    encoded: EncodedClip
    num_bytes: int
    paths: frozenset[str]
    _visuals: OrderedDict[Allocation, Visual] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, engine: Engine, plan: ClipPlan) -> WatchedClip:
        """Share a budget out, unless that was done before."""
        allocation = plan.allocation(list(self.encoded.pts_seconds.values()))
        with self._lock:
            visual = self._visuals.get(allocation)
            if visual is None:
                visual = allocate(engine, plan, self.encoded).visual
                self._visuals[allocation] = visual
            self._visuals.move_to_end(allocation)
            while len(self._visuals) > _MOST_VISUALS:
                self._visuals.popitem(last=False)
        return WatchedClip(plan=plan, visual=visual)


class WarmClips:
    """Encoded clips, of which those used longest ago make room for others.

    Args:
        max_bytes: of the tokens of all of them, reckoned before they are made.
        max_clips: held.
        at_once: clips that are encoded side by side.
    """

    def __init__(self, *, max_bytes: int, max_clips: int, at_once: int) -> None:
        self._max_bytes = max_bytes
        self._max_clips = max_clips
        self._places = threading.Semaphore(at_once)
        self._lock = threading.Lock()
        self._clips: OrderedDict[str, WarmClip] = OrderedDict()
        self._making: dict[str, Future[WarmClip]] = {}

    def get(
        self,
        clip_id: str,
        num_bytes: int,
        paths: tuple[str, ...],
        encode: Callable[[], EncodedClip],
        patience: Patience,
    ) -> tuple[WarmClip, bool]:
        """Return a clip, and whether it was there.

        Whoever asks first encodes it, and others wait; they hear of the error too if there is one,
        but where the first has left the next goes on.

        Args:
            clip_id: of all that its tokens depend on.
            num_bytes: that its tokens take at most.
            paths: of its files.
            encode: makes it.
            patience: of who asks.

        Raises:
            RequestError: it is larger than all that is held.
            StreamError: it cannot be encoded.
        """
        self._check(num_bytes)
        while True:
            with self._lock:
                if clip_id in self._clips:
                    self._clips.move_to_end(clip_id)
                    return self._clips[clip_id], True
                others = self._making.get(clip_id)
                if others is None:
                    mine = self._making[clip_id] = Future()
                    break
            patience.wait(others)
            error = others.exception()
            if isinstance(error, StreamError):
                raise error
            if error is None:
                return others.result(), True
        with self._made(clip_id, mine):
            patience.acquire(self._places)
            try:
                encoded = encode()
            finally:
                self._places.release()
            warm = WarmClip(encoded=encoded, num_bytes=num_bytes, paths=frozenset(paths))
            self._hold(clip_id, warm)
            mine.set_result(warm)
            return warm, False

    def forget(self, path: str) -> None:
        """Drop the clips made of a file."""
        with self._lock:
            for clip_id in [name for name, clip in self._clips.items() if path in clip.paths]:
                del self._clips[clip_id]

    @contextmanager
    def _made(self, clip_id: str, future: "Future[WarmClip]") -> Iterator[None]:
        """Tell those who wait what became of it."""
        try:
            yield
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[clip_id]

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            gib, most = num_bytes / 2**30, self._max_bytes / 2**30
            raise RequestError(
                422,
                "media_too_large",
                f"the clip's tokens would take {gib:.1f} GiB, and {most:g} are held here: ask for "
                "fewer frames, or for a budget",
            )

    def _hold(self, clip_id: str, warm: WarmClip) -> None:
        with self._lock:
            self._clips[clip_id] = warm
            while (
                len(self._clips) > self._max_clips
                or sum(clip.num_bytes for clip in self._clips.values()) > self._max_bytes
            ):
                self._clips.popitem(last=False)
