"""Clips whose ranked tokens are held for the next question: each encoded once, whoever asks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from streaming.serve.failures import RequestError
from streaming.serve.patience import Patience
from streaming.serve.warm_clip import WarmClip
from workers.errors import StreamError
from workers.run.clip_job import Progress
from workers.run.clips import EncodedClip


@dataclass(slots=True, kw_only=True, eq=False)
class _Making:
    """A clip that is being encoded, and how many frames of it are."""

    clip: "Future[WarmClip]" = field(default_factory=Future)
    frames_done: int = 0


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
        self._making: dict[str, _Making] = {}

    def get(
        self,
        clip_id: str,
        num_bytes: int,
        paths: tuple[str, ...],
        encode: Callable[[Callable[[Progress], None]], EncodedClip],
        patience: Patience,
        show: Callable[[int], object],
    ) -> tuple[WarmClip, bool]:
        """Return a clip, and whether it was there.

        Whoever asks first encodes it, and others wait; they hear of the error too if there is one,
        but where the first has left the next goes on.

        Args:
            clip_id: of all that its tokens depend on.
            num_bytes: that its tokens take at most.
            paths: of its files.
            encode: makes it, and tells the function it is given of each step.
            patience: of who asks.
            show: told how many frames are encoded, now and then, until it is there.

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
                    mine = self._making[clip_id] = _Making()
                    break
            if (made := _awaited(others, patience, show)) is not None:
                return made, True
        with self._made(clip_id, mine.clip):
            encoded = self._encoded(mine, encode, patience, show)
            warm = WarmClip(
                clip_id=clip_id, encoded=encoded, num_bytes=num_bytes, paths=frozenset(paths)
            )
            self._hold(warm)
            mine.clip.set_result(warm)
            return warm, False

    def picture(self, clip_id: str, frame: int) -> bytes:
        """Return the picture of a clip's frame, a JPEG.

        Raises:
            RequestError: it is not held, or not any more.
        """
        with self._lock:
            clip = self._clips.get(clip_id)
            if clip is None or frame not in clip.encoded.thumbnails:
                raise RequestError(404, "picture_not_found", "no such picture is held: ask again")
            self._clips.move_to_end(clip_id)
            return clip.encoded.thumbnails[frame]

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

    def _encoded(
        self,
        mine: _Making,
        encode: Callable[[Callable[[Progress], None]], EncodedClip],
        patience: Patience,
        show: Callable[[int], object],
    ) -> EncodedClip:
        def note(progress: Progress) -> None:
            patience.check()
            mine.frames_done += progress.num_encoded
            show(mine.frames_done)

        show(0)
        patience.acquire(self._places)
        try:
            return encode(note)
        finally:
            self._places.release()

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            gib, most = num_bytes / 2**30, self._max_bytes / 2**30
            raise RequestError(
                422,
                "media_too_large",
                f"the clip's tokens would take {gib:.1f} GiB, and {most:g} are held here: ask for "
                "fewer frames, or for a budget",
            )

    def _hold(self, warm: WarmClip) -> None:
        with self._lock:
            self._clips[warm.clip_id] = warm
            while (
                len(self._clips) > self._max_clips
                or sum(clip.num_bytes for clip in self._clips.values()) > self._max_bytes
            ):
                self._clips.popitem(last=False)


def _awaited(making: _Making, patience: Patience, show: Callable[[int], object]) -> WarmClip | None:
    """Return a clip that another encodes, None where that one has left; raises what it heard."""
    patience.wait(making.clip, lambda: show(making.frames_done))
    error = making.clip.exception()
    if isinstance(error, StreamError):
        raise error
    return making.clip.result() if error is None else None
