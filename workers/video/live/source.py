"""A watched source: read in a process that is killed when it is silent, and opened again."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from workers.video.live.address import Address
from workers.video.live.buffer import EventBuffer
from workers.video.live.clock import Resume
from workers.video.live.events import Away, End, Event, Gap, LiveFrame
from workers.video.live.order import ReadOrder
from workers.video.live.process import ReadingProcess
from workers.video.live.ticks import Ticks
from workers.video.live.wire import SilenceError

_FIRST_PAUSE_SECONDS = 0.5
_MOST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a source is waited for, in seconds of wall time.

    After ``silence`` without a picture its reader is killed and it is opened again, at first after
    ``first_pause``, then after ever longer pauses; after ``give_up`` without one it is given up.
    """

    silence: float = 15.0
    give_up: float = 60.0
    first_pause: float = _FIRST_PAUSE_SECONDS


class LiveSource:
    """Reads a source in the background; a context, which ends the reading when it is left.

    A live source, or a file that is played at a pace, loses what is not taken in time: the oldest
    sampled frames beyond 64, then whole groups of pictures. A file, a pipe and what is behind an
    address and tells how long it is wait.

    Args:
        address: what is read.
        fps: sampled pictures a media second.
        speed: at which a file is played, 0 for as fast as it is taken.
        max_lag_seconds: groups of pictures that come later are not decoded.
        pipe: file descriptor of a source that is a pipe.
        patience: how long it is waited for.
        max_bytes: of private memory of the process that reads, 0 for no limit.
    """

    def __init__(
        self,
        address: Address,
        *,
        fps: float,
        speed: float = 0.0,
        max_lag_seconds: float = 10.0,
        pipe: int = 0,
        patience: Patience | None = None,
        max_bytes: int = 0,
    ) -> None:
        self.address = address
        self._patience = patience or Patience()
        self._speed = speed or 1.0
        self._order = ReadOrder(
            source=address.url,
            fps=fps,
            speed=speed,
            max_lag_seconds=max_lag_seconds,
            pipe=pipe,
            max_bytes=max_bytes,
        )
        self._buffer = EventBuffer(waits=not (address.is_live or speed))
        self._process: ReadingProcess | None = None
        self._closed = threading.Event()
        self._last_came = time.monotonic()
        self._origin: float | None = None
        self._gap: str | None = None
        """Why pictures are missing since the last one, None while they come."""
        self._reason: str | None = None
        """Why the connection was lost the last time."""
        self._thread = threading.Thread(target=self._run, name="live source", daemon=True)

    def __enter__(self) -> Self:
        self._last_came = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._thread.join(timeout=10)

    def close(self) -> None:
        """End the reading; from any thread, also before it has begun, and more than once."""
        self._closed.set()
        self._buffer.close()
        if self._process is not None:
            self._process.kill()

    def take(self, timeout_seconds: float) -> tuple[list[Event], float | None]:
        """Return the next events, and the media time up to which there are no more of them yet.

        Args:
            timeout_seconds: how long to wait where there are none.
        """
        return self._buffer.take(timeout_seconds)

    @property
    def may_drop(self) -> bool:
        """Whether what is not taken in time is lost."""
        return not self._buffer.waits

    @property
    def ticks(self) -> Ticks | None:
        """When pictures are sampled, None before the first."""
        return self._order.ticks

    @property
    def newest_seconds(self) -> float | None:
        """The media time that the source has reached, whatever has been taken of it."""
        return self._buffer.newest_seconds

    @property
    def num_dropped(self) -> int:
        """Sampled frames that came and were not taken in time."""
        return self._buffer.num_dropped

    def lag_seconds(self, media_seconds: float) -> float | None:
        """Return how long ago a media time was, for a source with a pace of its own."""
        if self._origin is None or not self.may_drop:
            return None
        return max(0.0, time.monotonic() - self._origin - media_seconds / self._speed)

    def _run(self) -> None:
        try:
            self._buffer.put(self._read_to_the_end())
        except Exception as error:  # whoever takes events must hear that there will be none
            text = f"reading failed: {type(error).__name__}: {error}"
            self._buffer.put(End(error=f"{self.address.name}: {text}"))

    def _read_to_the_end(self) -> End:
        pause = self._patience.first_pause
        while not self._closed.is_set():
            before = self._order.resume
            outcome = self._read()
            if isinstance(outcome, End):
                return outcome
            if self._has_advanced(before):
                pause = self._patience.first_pause
            pause = min(pause, max(0.0, self._give_up_at - time.monotonic()))
            self._buffer.put(Away(reason=outcome, pause_seconds=pause))
            self._closed.wait(pause)
            pause = min(2 * pause, _MOST_PAUSE_SECONDS)
        return End()

    def _read(self) -> End | str:
        """Read one connection to its end; return the end of the source, or why it was lost."""
        try:
            with ReadingProcess(self._order) as process:
                self._process = process
                if self._closed.is_set():  # which has seen no process to kill
                    return End()
                outcome = self._listen(process)
        except SilenceError:
            outcome = f"no picture for {self._patience.silence:g} s"
            if self._is_over and self._reason is not None:  # a last try that had less time
                outcome = self._reason
        if isinstance(outcome, End):
            return outcome
        if self._is_over:
            waited = f"no picture for {self._patience.give_up:g} s"
            return End(error=f"{self.address.name}: {waited} ({outcome})")
        self._reason = outcome
        self._open_gap(outcome)
        return outcome

    def _listen(self, process: ReadingProcess) -> End | str:
        silence = max(0.01, min(self._patience.silence, self._give_up_at - time.monotonic()))
        while (message := process.receive(silence)) is not None:
            told, pixels = message
            if told["kind"] == "end":
                if not told["is_end"]:
                    if "last_seconds" in told:
                        self._order = self._order.after(told)
                    break
                self._close_gap(told["end_seconds"])
                self._buffer.reach(told["end_seconds"])
                return End()
            if told["kind"] == "failed":
                text = str(told["text"])
                short = text.removeprefix(f"{self.address.name}: ")
                return End(error=text) if told["is_final"] else short
            if told["kind"] == "opened":
                self._buffer.waits = told["waits"] and not self._order.speed
                continue
            self._hear(told, pixels)
            silence = self._patience.silence
        return "the connection ended"

    def _hear(self, told: dict[str, Any], pixels: bytes) -> None:
        kind = told["kind"]
        if kind == "reset":
            self._open_gap("its clock was set anew")
        if kind == "dropped":
            self._open_gap(f"{told['num_pictures']} pictures were not decoded, to catch up")
        if "last_seconds" not in told:
            return
        if kind != "dropped":
            self._close_gap(told["last_seconds"])
        before = self._order.resume
        self._order, self._origin = self._order.after(told), told["origin"]
        if kind == "frame":
            picture = np.frombuffer(pixels, np.uint8).reshape(told["height"], told["width"], 3)
            self._buffer.put(
                LiveFrame(picture=picture, pts_seconds=told["seconds"], tick=told["tick"])
            )
        self._buffer.reach(told["last_seconds"])
        if self._has_advanced(before):  # after it was put: who takes it may be slow
            self._last_came = time.monotonic()

    def _has_advanced(self, before: Resume | None) -> bool:
        now = self._order.resume
        return now is not None and (before is None or now.last_seconds > before.last_seconds)

    @property
    def _give_up_at(self) -> float:
        return self._last_came + self._patience.give_up

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self._give_up_at

    def _open_gap(self, reason: str) -> None:
        """Begin a gap behind the last picture, unless there was none or one is open."""
        if self._order.resume is not None and self._gap is None:
            self._gap = reason

    def _close_gap(self, seconds: float) -> None:
        """End the gap before the picture at a media time."""
        if self._gap is None or self._order.resume is None:
            return
        gap = Gap(
            start_seconds=self._order.resume.last_seconds,
            end_seconds=seconds,
            wall_seconds=time.monotonic() - self._order.last_arrived,
            reason=self._gap,
        )
        self._gap = None
        self._buffer.put(gap)
