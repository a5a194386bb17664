"""What has come from a source and has not been taken yet: bounded, the newest kept."""

import threading
from collections import deque

from workers.video.live.events import Event, Gap, LiveFrame

TOO_FAST = "frames came faster than they are encoded"
_MOST_FRAMES = 64
_MOST_BYTES = 256 * 2**20
_MOST_AT_ONCE = 8


class EventBuffer:
    """Events on their way from the thread that reads to the one that encodes.

    Args:
        waits: whether who puts frames waits while it is full; else the oldest frame goes. May be
            changed.
        most_frames: that wait.
    """

    def __init__(self, *, waits: bool, most_frames: int = _MOST_FRAMES) -> None:
        self.waits = waits
        self._most_frames = most_frames
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._reached: float | None = None
        self.num_dropped = 0
        """Frames that were not taken in time."""

    def put(self, event: Event) -> None:
        """Add an event, of the newest moment; a full buffer waits or forgets its oldest frame."""
        with self._changed:
            if self.waits:
                self._changed.wait_for(lambda: self._closed or not self._is_full())
            self._events.append(event)
            while not self.waits and self._is_full():
                self._drop_oldest()
            self._changed.notify_all()

    def reach(self, seconds: float) -> None:
        """Tell that every sampled picture before this media time has been put."""
        with self._changed:
            self._reached = seconds
            self._changed.notify_all()

    def take(self, timeout_seconds: float) -> tuple[list[Event], float | None]:
        """Return what waits, at most a batch, and the media time reached if that is all."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed, timeout_seconds)
            events = [self._events.popleft() for _ in range(min(len(self._events), _MOST_AT_ONCE))]
            self._changed.notify_all()
            return events, None if self._events else self._reached

    @property
    def newest_seconds(self) -> float | None:
        """The media time that the source has reached, whatever has been taken."""
        return self._reached

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_full(self) -> bool:
        frames = [event for event in self._events if isinstance(event, LiveFrame)]
        num_bytes = sum(frame.picture.nbytes for frame in frames)
        return len(frames) > self._most_frames or (len(frames) > 1 and num_bytes > _MOST_BYTES)

    def _drop_oldest(self) -> None:
        """Forget the oldest frame, and say so where it was; neighbours become one gap."""
        frames = ((i, e) for i, e in enumerate(self._events) if isinstance(e, LiveFrame))
        place, frame = next(frames)
        start = frame.pts_seconds
        before = self._events[place - 1] if place else None
        if isinstance(before, Gap) and before.reason == TOO_FAST:
            place, start = place - 1, before.start_seconds
            del self._events[place]
        self._events[place] = Gap(
            start_seconds=start, end_seconds=frame.pts_seconds, wall_seconds=0.0, reason=TOO_FAST
        )
        self.num_dropped += 1
