"""Looking up the pictures of a clip by ascending presentation times, right after every seek.

A seek is trusted only if decoding starts at a keyframe not later than the wanted picture and that
keyframe itself decodes cleanly; otherwise it goes back further, at last to the beginning. So the
pictures do not depend on where the reading of a segment began.

A decoder hands out pictures later than it has decoded them, so as to sort them. Behind the last
wanted picture before a seek it is not fed with more for that, but emptied. Pictures that nobody
asked for and none refers to are decoded all the same: where data is damaged, a decoder patches
pictures from those it has decoded last, whichever they are.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from types import TracebackType
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.arrays import Int64Array, UInt8Array
from workers.video.container import (
    PictureReader,
    flushing_packet,
    open_video,
    read_packets,
)
from workers.video.display import Display, UprightPictures
from workers.video.limits import Deadline
from workers.video.video_index import VideoIndex

_Shown = tuple[int, VideoFrame | None]
"""Presentation time and picture; None only before the first and after the last."""

_BEFORE_ALL: _Shown = (-(2**62), None)
_AFTER_ALL: _Shown = (2**62, None)


class PictureFinder:
    """An open clip in which ascending presentation times are looked up.

    Args:
        index: of the clip, whole or cut.
        wanted: (n,) int64, ascending: the times that will be looked up.
        deadline: for reading.
    """

    def __init__(self, index: VideoIndex, wanted: Int64Array, deadline: Deadline) -> None:
        self._index = index
        self._wanted = wanted
        self._wanted_set = frozenset(wanted.tolist())
        self._deadline = deadline
        self._reader = PictureReader(deadline)
        self._upright = UprightPictures(
            Display(
                width=index.width,
                height=index.height,
                rotation_degrees=index.rotation_degrees,
                mirrored=index.mirrored,
            )
        )
        self._may_seek = index.seekable
        self._target = _BEFORE_ALL[0]
        self._current = _BEFORE_ALL
        self._open_file = ExitStack()
        self._restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_file.close()

    def find(self, pts: int) -> UInt8Array | None:
        """Return the picture shown from ``pts`` on as (height, width, 3), None if undecodable."""
        self._target = pts
        if self._has_to_seek(pts):
            self._seek(self._keyframe_before(pts))
        while self._current[0] < pts:
            self._current = next(self._pictures, _AFTER_ALL)
        shown_from, frame = self._current
        return self._upright.rgb(frame) if frame is not None and shown_from == pts else None

    def troubles(self) -> str:
        """Say what could not be decoded so far."""
        return self._reader.troubles()

    def _keyframe_before(self, pts: int) -> int:
        return int(np.searchsorted(self._index.keyframe_pts, pts, "right")) - 1

    def _has_to_seek(self, pts: int) -> bool:
        """Tell whether a keyframe lies between what has been read and ``pts``."""
        keyframe = self._keyframe_before(pts)
        ahead = keyframe > 0 and self._index.keyframe_pts[keyframe] > self._read_up_to
        return bool(self._may_seek and ahead)

    def _restart(self) -> None:
        """Read from the beginning of the file, from where every picture comes out right."""
        self._open_file.close()
        opened = open_video(self._index.path, self._deadline)
        self._container, self._stream = self._open_file.enter_context(opened)
        self._read_up_to = _BEFORE_ALL[0]
        self._pictures = self._timed_pictures(self._packets())
        self._current = _BEFORE_ALL

    def _seek(self, keyframe: int) -> None:
        """Start decoding at this keyframe, or at an earlier one where it is not sound."""
        step = 1
        while keyframe > 0:
            if self._start_at(int(self._index.keyframe_pts[keyframe])):
                return
            keyframe -= step
            step *= 2
        self._may_seek = False
        self._restart()

    def _start_at(self, keyframe_pts: int) -> bool:
        try:
            self._container.seek(keyframe_pts, stream=self._stream)
        except FFmpegError:
            return False
        self._read_up_to = _BEFORE_ALL[0]
        packets = self._packets()
        keyframe = next((packet for packet in packets if packet.is_keyframe), None)
        if keyframe is None or keyframe.pts is None or keyframe.pts > keyframe_pts:
            return False
        self._pictures = self._timed_pictures(chain([keyframe], packets))
        # Pictures shown before the keyframe but stored after it lack what they refer to.
        self._current = _BEFORE_ALL
        while self._current[0] < keyframe.pts:
            self._current = next(self._pictures, _AFTER_ALL)
        return self._current[0] == keyframe.pts

    def _packets(self) -> "Iterator[Packet[VideoStream]]":
        """Yield packets up to where the next picture has to be sought, then an empty one."""
        passed: set[int | None] = set()
        before: int | None = None
        for packet in read_packets(self._container, self._stream, self._deadline):
            if packet.pts is not None:
                self._read_up_to = max(self._read_up_to, packet.pts)
            yield packet
            # The second field of a picture may come in a packet of its own.
            if before in self._wanted_set:
                passed.add(before)
            before = packet.pts
            is_empty = packet.size == 0  # as the last one is
            if not is_empty and self._target in passed and self._is_last_before_seek():
                yield flushing_packet(self._stream)
                return

    def _is_last_before_seek(self) -> bool:
        following = int(np.searchsorted(self._wanted, self._target, "right"))
        is_last = following == len(self._wanted)
        return self._may_seek and (is_last or self._has_to_seek(int(self._wanted[following])))

    def _timed_pictures(self, packets: "Iterator[Packet[VideoStream]]") -> Iterator[_Shown]:
        pictures = self._reader.pictures(packets)
        if self._index.numbered:
            times = self._times_by_number()
            return ((times[i], picture) for i, picture in enumerate(pictures) if i in times)
        return ((picture.pts, picture) for picture in pictures if picture.pts is not None)

    def _times_by_number(self) -> dict[int, int]:
        numbers = self._index.numbers
        numbers = np.arange(self._index.num_frames) if numbers is None else numbers
        return dict(zip(numbers.tolist(), self._index.pts.tolist(), strict=True))
