"""One connection to a source: every picture is decoded, the sampled ones are handed over."""

import math
import time
from collections.abc import Iterator
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.video.container import PictureReader, flushing_packet, read_packets
from workers.video.display import UprightPictures, read_display
from workers.video.live.address import Address
from workers.video.live.clock import MediaClock
from workers.video.live.lag import Lag
from workers.video.live.opening import Opened, no_deadline
from workers.video.live.order import ReadOrder
from workers.video.live.ticks import Ticks
from workers.video.live.wire import send

_SLACK_SECONDS = 10.0
_PLAYLIST_REPLAY_SECONDS = 120.0
_PULSE_SECONDS = 0.1
_END_SECONDS = 1.0
"""What may be missing at the end of a source that told how long it is."""


class Connection:
    """Reads a source to the end of the connection: pictures in, messages out.

    Args:
        order: what to read.
        opened: the source.
        out: file descriptor of the messages.
    """

    def __init__(self, order: ReadOrder, address: Address, opened: Opened, out: int) -> None:
        self._order = order
        self._address = address
        self._container, self._stream = opened
        self._out = out
        self._time_base = float(self._stream.time_base or 1)
        duration = self._container.duration
        self._duration = None if not duration or duration < 0 else duration / 1e6
        self._clock = MediaClock(
            replay_seconds=self._replay_seconds(),
            slack_seconds=_SLACK_SECONDS if self._duration is None else math.inf,
            resume=order.resume,
        )
        self._waits = not address.is_live or self._duration is not None
        self._is_timed = not self._waits or order.speed > 0
        self._lag = Lag(order.speed or 1.0)
        self._ticks = order.ticks
        self._num_settled = order.num_settled
        self._arrived = order.last_arrived
        self._pending: tuple[float, VideoFrame] | None = None
        self._upright: UprightPictures | None = None
        self._pulse_after = 0.0
        self._num_resets = 0
        self._latest_pts = -math.inf
        self._is_dropping = address.is_live  # until the first keyframe
        self._num_dropped = 0
        self._started: tuple[float, float] | None = None
        """Wall and media time of the first picture."""

    def _replay_seconds(self) -> float:
        if self._duration is not None:
            return math.inf
        is_playlist = self._container.format.name == "hls"
        return _PLAYLIST_REPLAY_SECONDS if is_playlist else self._address.replay_seconds

    def run(self) -> None:
        """Read up to the end of the connection."""
        self._tell(kind="opened", waits=self._waits)
        self._skip_what_is_known()
        reader = PictureReader(no_deadline(self._address))
        for picture in reader.pictures(self._packets()):
            self._take(picture)
        self._finish()

    def _skip_what_is_known(self) -> None:
        """Go on in a source of known length where it was left, if it lets us."""
        resume = self._order.resume
        if resume is not None and self._duration is not None:
            try:
                seconds = resume.last_seconds - resume.offset_seconds
                self._container.seek(round(seconds / self._time_base), stream=self._stream)
            except FFmpegError:
                return  # it is read from its beginning

    def _packets(self) -> "Iterator[Packet[VideoStream]]":
        """Yield packets, but no group of pictures that begins too late."""
        for packet in read_packets(self._container, self._stream, no_deadline(self._address)):
            if packet.size == 0:
                break
            if packet.is_keyframe:
                self._begin_group(packet)
            if self._is_dropping:
                self._num_dropped += 1
                continue
            if packet.pts is not None:
                self._latest_pts = max(self._latest_pts, packet.pts)
            yield packet
        if self._is_dropping and self._started is not None:
            self._tell(kind="dropped", num_pictures=self._num_dropped)
        if not self._will_go_on():
            yield flushing_packet(self._stream)

    def _will_go_on(self) -> bool:
        """Return whether what a decoder still holds comes again, with the pictures between."""
        if not self._address.is_live or self._duration is None:
            return False
        return not self._is_played(self._latest_pts * self._time_base)

    def _begin_group(self, packet: "Packet[VideoStream]") -> None:
        late = 0.0
        if self._is_timed and packet.pts is not None and self._started is not None:
            media = packet.pts * self._time_base + self._clock.offset_seconds
            late = self._lag.add(media, time.monotonic())
        was_dropping, self._is_dropping = self._is_dropping, late > self._order.max_lag_seconds
        if was_dropping and not self._is_dropping and self._started is not None:
            self._stream.codec_context.flush_buffers()
            self._tell(kind="dropped", num_pictures=self._num_dropped)
        if not self._is_dropping:
            self._num_dropped = 0

    def _take(self, picture: VideoFrame) -> None:
        now = time.monotonic()
        elapsed = now - self._arrived if not self._waits and self._arrived else None
        pts_seconds = None if picture.pts is None else picture.pts * self._time_base
        media = self._clock.place(pts_seconds, elapsed)
        if media is None:
            self._pulse(now)
            return
        if self._started is None:
            self._begin(picture, media, now)
        self._wait_for(media)
        self._arrived = now = time.monotonic()
        self._lag.add(media, now)
        if self._clock.num_resets > self._num_resets:
            self._num_resets = self._clock.num_resets
            self._tell(kind="reset", seconds=media)
        self._hand_over(media)
        self._pending = media, picture
        self._pulse(now)

    def _begin(self, picture: VideoFrame, media: float, now: float) -> None:
        self._started = now, media
        self._pulse_after = 0.0  # where the connection joins is told at once
        self._upright = UprightPictures(read_display(self._stream, picture, []))
        if self._ticks is None:
            self._ticks = Ticks(
                first_seconds=media,
                fps=self._order.fps,
                tolerance_seconds=self._time_base / 1000,
            )

    def _wait_for(self, media: float) -> None:
        """Play a file at its pace."""
        if not self._order.speed or self._started is None:
            return
        wall, first = self._started
        due = wall + (media - first) / self._order.speed
        while (now := time.monotonic()) < due:
            time.sleep(min(due - now, 0.5))
            self._pulse(now)

    def _hand_over(self, until_seconds: float) -> None:
        """Send the picture that is shown up to now if it was shown at a tick."""
        if self._pending is None or self._ticks is None or self._upright is None:
            return
        media, picture = self._pending
        tick = self._ticks.before(media)
        settled = self._ticks.before(until_seconds)
        if max(tick, self._num_settled) < settled:
            self._num_settled = settled
            pixels = self._upright.rgb(picture)
            shape = {"height": pixels.shape[0], "width": pixels.shape[1]}
            send(self._out, self._told("frame", seconds=media, tick=tick, **shape), pixels)
        self._pending = None

    def _pulse(self, now: float) -> None:
        if now >= self._pulse_after:
            self._pulse_after = now + _PULSE_SECONDS
            self._tell(kind="pulse")

    def _finish(self) -> None:
        is_end = self._is_end()
        if is_end and self._pending is not None:
            self._hand_over(self._clock.end_seconds)
        self._tell(kind="end", is_end=is_end, end_seconds=self._clock.end_seconds)

    def _is_end(self) -> bool:
        """Return whether the source is over, rather than the connection lost."""
        if not self._address.is_live:
            return True
        if self._duration is None or self._started is None:
            return False
        resume = self._order.resume
        if resume is not None and self._clock.last_seconds <= resume.last_seconds:
            return True  # it is shorter than it tells
        return self._is_played(self._clock.end_seconds - self._clock.offset_seconds)

    def _is_played(self, pts_seconds: float) -> bool:
        """Return whether a time is as good as the end that the source told of."""
        start = (self._container.start_time or 0) / 1e6
        return pts_seconds - start >= (self._duration or 0.0) - _END_SECONDS

    def _tell(self, *, kind: str, **more: Any) -> None:
        send(self._out, self._told(kind, **more))

    def _told(self, kind: str, **more: Any) -> dict[str, Any]:
        """Return a message with where the stream stands."""
        ticks = self._ticks
        if ticks is None or self._started is None:
            return {"kind": kind, **more}
        position = {
            "first_seconds": ticks.first_seconds,
            "tolerance_seconds": ticks.tolerance_seconds,
            "last_seconds": self._clock.last_seconds,
            "offset_seconds": self._clock.offset_seconds,
            "num_settled": self._num_settled,
            "arrived": self._arrived,
            "origin": self._lag.origin_seconds,
        }
        return {"kind": kind, **position, **more}
