"""Which pictures a clip holds and when each is shown, with as little decoding as can be.

Three kinds of clip come out:

- ordinary: every packet with a presentation time is a picture, known by that time and found by
  seeking;
- with a hole (``seekable`` False): time jumps forward, as in a broken recording or a joined
  transport stream; pictures are still known by their time, but read from the beginning;
- numbered (``numbered`` True, ``seekable`` False): times are missing, wrong (AVI with B-frames) or
  go backwards; pictures are then known by the order in which a sequential decode shows them.
"""

from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.errors import VideoDecodeError
from workers.messages import Int64Array, VideoIndex
from workers.video.container import (
    Deadline,
    PictureReader,
    display_name,
    open_video,
    read_packets,
)
from workers.video.numbers import needs_numbers, number_pictures
from workers.video.packets import PacketScan, scan_packets
from workers.video.sampling import JUMP_SECONDS

# Only MPEG streams are made to jump; elsewhere a long still picture is more likely.
_JUMP_SECONDS_ELSEWHERE = 3600.0
_NUM_PROBED = 8


def index_video(path: str, *, timeout_seconds: float = 20.0) -> VideoIndex:
    """List every displayable picture of a local video file by presentation time.

    One pass over the packets without decoding, then pictures are decoded up to the first sound
    one, which proves that the stream decodes and tells its true size and rotation. Left out is
    what a sequential decode would not show: hidden pictures, those an edit list cuts away, second
    fields, those before the first that can be decoded, and a last one that is cut off. A picture
    that proves damaged further on stays listed; ``decode_segment`` reports it.

    A clip whose packets carry no usable times is decoded once in full to count its pictures if
    that is quick (1.5 billion pixels); above that its packets stand for its pictures.

    Args:
        path: a local regular file; no URL, pipe, device or playlist.
        timeout_seconds: limit on wall time.

    Returns:
        The index; its ``warnings`` say what is unusual about the clip.

    Raises:
        VideoOpenError: missing, no regular file, or not a readable video.
        NoVideoStreamError: no moving pictures in it.
        VideoLimitError: pictures too large to be decoded safely.
        VideoDecodeError: not one picture can be decoded.
        VideoTimeoutError: it took longer than ``timeout_seconds``.

    Cost: O(packets); the file is read once.
    """
    deadline = Deadline(path, timeout_seconds)
    with open_video(path, deadline) as (container, stream):
        scan = scan_packets(container, stream, deadline)
        warnings = _header_warnings(container, stream, scan)
    with open_video(path, deadline) as (container, stream):
        reader = PictureReader(deadline)
        pictures = reader.pictures(read_packets(container, stream, deadline))
        first = next(pictures, None)
        if first is None:
            raise VideoDecodeError(_why_not_decoded(path, scan, reader))
        # Only interlaced pictures may come in two packets, one for each field.
        more = islice(pictures, _NUM_PROBED if first.interlaced_frame else 0)
        shown = [first.pts, *(picture.pts for picture in more)]
        numbered = needs_numbers(container, stream, scan, shown)
        if numbered:
            pixels = first.width * first.height
            pts = number_pictures(stream, scan, shown, pictures, pixels, warnings)
        else:
            pts = _shown_pts(scan, first.pts or 0, warnings)
        return _build(path, container, stream, scan, first, pts, numbered, warnings)


def _build(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    scan: PacketScan,
    first: VideoFrame,
    pts: Int64Array,
    numbered: bool,
    warnings: list[str],
) -> VideoIndex:
    time_base = float(stream.time_base or 1)
    rotation = _rotation(first, warnings)
    turned = rotation in (90, 270)
    limit = JUMP_SECONDS if "mpeg" in container.format.name else _JUMP_SECONDS_ELSEWHERE
    holes = np.flatnonzero(np.diff(pts) * time_base > limit).tolist()
    for hole in holes:
        before, after = (pts[hole : hole + 2] - pts[0]) * time_base
        warnings.append(f"time jumps from {before:.3f} s to {after:.3f} s; read from the beginning")
    keyframe_pts = np.unique(np.array(scan.keyframe_pts, np.int64))
    return VideoIndex(
        path=path,
        codec=stream.codec_context.codec.canonical_name,
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        rotation_degrees=rotation,
        time_base_seconds=time_base,
        pts=pts,
        seekable=not numbered and not holes and _keeps_times(container, stream, scan),
        warnings=tuple(f"{display_name(path)}: {warning}" for warning in warnings),
        keyframe_pts=keyframe_pts[np.isin(keyframe_pts, pts)],
        open_gop=scan.open_gop,
        numbered=numbered,
    )


def _keeps_times(container: InputContainer, stream: VideoStream, scan: PacketScan) -> bool:
    """Return whether a picture has the same time wherever reading begins.

    In a program stream the demuxer fills in times it has not read, and in AVI it counts packets,
    which goes wrong once some are lost.
    """
    damaged_avi = container.format.name == "avi" and stream.frames != scan.num_packets
    return container.format.name != "mpeg" and not damaged_avi


def _shown_pts(scan: PacketScan, first_pts: int, warnings: list[str]) -> Int64Array:
    listed = scan.pts[:-1] if scan.cut_off and len(scan.pts) > 1 else scan.pts
    pts = np.unique(np.array(listed, np.int64))
    shown = pts[pts >= first_pts]
    if len(listed) < len(scan.pts):
        warnings.append("the data is cut off within the last picture, which is left out")
    if len(shown) < len(pts):
        warnings.append(f"the first {len(pts) - len(shown)} pictures cannot be decoded")
    return shown


def _rotation(first: VideoFrame, warnings: list[str]) -> int:
    if first.rotation % 90:
        warnings.append(f"a rotation of {first.rotation} degrees is ignored")
        return 0
    return int(first.rotation) % 360


def _header_warnings(container: InputContainer, stream: VideoStream, scan: PacketScan) -> list[str]:
    if stream.frames > scan.num_packets > 0:
        return [f"holds {scan.num_packets} of the {stream.frames} pictures its header promises"]
    if stream.frames or not scan.pts or scan.steps_back or not container.duration:
        return []
    end_seconds = (max(scan.pts) - min(scan.pts)) * float(stream.time_base or 1)
    promised_seconds = container.duration / av.time_base
    if end_seconds < 0.95 * promised_seconds - 1:
        return [f"pictures end at {end_seconds:.1f} s of the {promised_seconds:.1f} s promised"]
    return []


def _why_not_decoded(path: str, scan: PacketScan, reader: PictureReader) -> str:
    if scan.encrypted:
        reason = "is encrypted; decrypt it first"
    elif scan.num_packets == 0:
        reason = "has a video header but no pictures; try to get the file again"
    else:
        reason = (
            f"not one of its {scan.num_packets} pictures can be decoded "
            f"({reader.troubles()}); try to get the file again"
        )
    return f"{display_name(path)}: {reason}"
