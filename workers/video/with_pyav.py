"""Reading chosen pictures of a clip with PyAV: driven by times, right after every seek.

A seek is trusted only if decoding starts at a keyframe not later than the wanted picture and that
keyframe itself decodes cleanly; otherwise it goes back further, at last to the beginning. So the
pictures do not depend on where the reading of a segment began.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from types import TracebackType
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from workers.arrays import UInt8Array
from workers.frames import PictureChunk
from workers.video.container import PictureReader, open_video, read_packets
from workers.video.display import set_upright
from workers.video.limits import Deadline
from workers.video.segments import VideoSegment
from workers.video.video_index import VideoIndex

_Shown = tuple[int, VideoFrame | None]
"""Presentation time and picture; None only before the first and after the last."""

_BEFORE_ALL: _Shown = (-(2**62), None)
_AFTER_ALL: _Shown = (2**62, None)


def decode_with_pyav(segment: VideoSegment, timeout_seconds: float) -> Iterator[PictureChunk]:
    """Yield the segment's chunks; see ``workers.video.decode.read_pictures``."""
    deadline = Deadline(segment.index.path, timeout_seconds)
    with _PictureFinder(segment.index, deadline) as finder:
        for chunk in segment.chunks():
            # Whoever takes the pictures may have kept them for long.
            deadline.restart()
            pictures = [finder.find(pts) for pts in chunk.pts.tolist()]
            yield make_chunk(chunk, pictures, finder.troubles())


def make_chunk(
    chunk: VideoSegment, pictures: Sequence[UInt8Array | None], troubles: str
) -> PictureChunk:
    """Return the pictures of a chunk, with a warning that names those missing (None) if any."""
    index = chunk.index
    missing = np.array([picture is None for picture in pictures], bool)
    seconds = chunk.pts.astype(np.float64) * index.time_base_seconds
    times = ", ".join(f"{each:.3f}" for each in seconds[missing])
    warning = (
        f"{index.name}: {missing.sum()} sampled frames cannot be decoded, "
        f"shown at {times} s ({troubles})"
    )
    return PictureChunk(
        clip_id=chunk.clip_id,
        frame_indices=chunk.first_frame + np.flatnonzero(~missing),
        pts_seconds=seconds[~missing],
        pictures=tuple(picture for picture in pictures if picture is not None),
        warnings=(warning,) if missing.any() else (),
    )


class _PictureFinder:
    """An open clip in which ascending presentation times are looked up."""

    def __init__(self, index: VideoIndex, deadline: Deadline) -> None:
        self._index = index
        self._deadline = deadline
        self._reader = PictureReader(deadline)
        self._reformatter = VideoReformatter()
        self._may_seek = index.seekable
        self._open_file = ExitStack()
        self._current = _BEFORE_ALL
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
        keyframe = int(np.searchsorted(self._index.keyframe_pts, pts, "right")) - 1
        if self._may_seek and keyframe > 0 and self._is_ahead(keyframe):
            self._seek(keyframe)
        while self._current[0] < pts:
            self._current = next(self._pictures, _AFTER_ALL)
        shown_from, frame = self._current
        return self._to_rgb(frame) if frame is not None and shown_from == pts else None

    def troubles(self) -> str:
        """Say what could not be decoded so far."""
        return self._reader.troubles()

    def _is_ahead(self, keyframe: int) -> bool:
        return bool(self._index.keyframe_pts[keyframe] > self._read_up_to)

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
        for packet in read_packets(self._container, self._stream, self._deadline):
            if packet.pts is not None:
                self._read_up_to = max(self._read_up_to, packet.pts)
            yield packet

    def _timed_pictures(self, packets: "Iterator[Packet[VideoStream]]") -> Iterator[_Shown]:
        pictures = self._reader.pictures(packets)
        if self._index.numbered:
            return zip(self._index.pts.tolist(), pictures, strict=False)
        return ((picture.pts, picture) for picture in pictures if picture.pts is not None)

    def _to_rgb(self, frame: VideoFrame) -> UInt8Array:
        index = self._index
        turned = index.rotation_degrees in (90, 270)
        width, height = (index.height, index.width) if turned else (index.width, index.height)
        same_size = (frame.width, frame.height) == (width, height)
        picture: UInt8Array = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=None if same_size else Interpolation.BICUBIC,
            threads=1,
        ).to_ndarray()  # type: ignore[assignment]
        return set_upright(
            picture, rotation_degrees=index.rotation_degrees, mirrored=index.mirrored
        )
