"""Which pictures a clip holds and when each is shown, with as little decoding as can be.

Three kinds of clip come out:

- ordinary: every packet with a presentation time is a picture, known by that time and found by
  seeking;
- with a hole (``seekable`` False): time jumps forward, as in a broken recording or a joined
  transport stream; pictures are still known by their time, but read from the beginning;
- numbered (``numbered`` True, ``seekable`` False): times are missing, wrong (AVI with B-frames) or
  go backwards; pictures are then known by the order in which a sequential decode shows them.
"""

import os
from collections.abc import Callable
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.arrays import Int64Array
from workers.errors import VideoDecodeError, display_name
from workers.video.container import MPEG_CONTAINERS, PictureReader, open_video, read_packets
from workers.video.display import read_display
from workers.video.limits import Deadline, check_file, check_size
from workers.video.numbers import needs_numbers, number_pictures
from workers.video.packets import PacketScan, are_among, distinct, scan_packets
from workers.video.sampling import jump_ticks
from workers.video.video_index import VideoIndex

# Only MPEG streams are made to jump; elsewhere a long still picture is more likely.
_JUMP_SECONDS_ELSEWHERE = 3600.0
_NUM_PROBED = 8


def index_video(
    path: str,
    *,
    timeout_seconds: float = 20.0,
    progress: Callable[[float], object] | None = None,
) -> VideoIndex:
    """List every displayable picture of a local video file by presentation time.

    One pass over the packets without decoding, then pictures are decoded up to the first sound
    one, which proves that the stream decodes and tells how it is displayed. Left out is what a
    sequential decode would not show: hidden pictures, those an edit list cuts away, second
    fields, those before the first that can be decoded, and a last one that is cut off. Left out,
    with a warning, are also those that share their time with an earlier one. A picture that proves
    damaged further on stays listed; ``read_pictures`` reports it.

    A clip whose packets carry no usable times is decoded once in full to count its pictures if
    that is quick (1.5 billion pixels); above that its packets stand for its pictures.

    Args:
        path: a local regular file; no URL, pipe, device or playlist.
        timeout_seconds: limit on wall time without progress; a clip may be of any length.
        progress: called now and then with the share of the file read so far, in [0, 1]; with 1 at
            the end.

    Returns:
        The index; its ``warnings`` say what is unusual about the clip.

    Raises:
        VideoOpenError: missing, no regular file, or not a readable video.
        NoVideoStreamError: no moving pictures in it.
        VideoLimitError: pictures too large to be decoded safely.
        VideoDecodeError: not one picture can be decoded.
        VideoTimeoutError: nothing came of reading for ``timeout_seconds``.

    Cost: O(packets) time and some 16 bytes of memory a packet; the file is read once.
    """
    status = check_file(path)
    deadline = Deadline(path, timeout_seconds)
    with open_video(path, deadline) as (container, stream):
        report = progress and (lambda read: progress(min(1.0, read / status.st_size)))
        scan = scan_packets(container, stream, deadline, report)
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
        index = _build(path, container, stream, scan, first, pts, numbered, warnings, status)
    if progress is not None:
        progress(1.0)
    return index


def _build(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    scan: PacketScan,
    first: VideoFrame,
    pts: Int64Array,
    numbered: bool,
    warnings: list[str],
    status: os.stat_result,
) -> VideoIndex:
    time_base = float(stream.time_base or 1)
    display = read_display(stream, first, warnings)
    check_size(display_name(path), display.width, display.height)
    jumps = _has_jumps(container, pts, time_base, warnings)
    keyframe_pts = scan.distinct_keyframe_pts()
    return VideoIndex(
        path=path,
        codec=stream.codec_context.codec.canonical_name,
        width=display.width,
        height=display.height,
        rotation_degrees=display.rotation_degrees,
        mirrored=display.mirrored,
        time_base_seconds=time_base,
        pts=pts,
        seekable=not numbered and not jumps and _keeps_times(container, stream, scan),
        warnings=tuple(f"{display_name(path)}: {warning}" for warning in warnings),
        keyframe_pts=keyframe_pts[are_among(keyframe_pts, pts)],
        open_gop=scan.open_gop,
        numbered=numbered,
        trimmed=scan.trimmed,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _has_jumps(
    container: InputContainer, pts: Int64Array, time_base: float, warnings: list[str]
) -> bool:
    steps = np.diff(pts)
    limit = jump_ticks(steps, time_base)
    if container.format.name not in MPEG_CONTAINERS:
        limit = max(limit, round(_JUMP_SECONDS_ELSEWHERE / time_base))
    jumps = np.flatnonzero(steps > limit).tolist()
    if not jumps:
        return False
    before, after = pts[jumps[0] : jumps[0] + 2] * time_base
    others = f" and {len(jumps) - 1} times more" if len(jumps) > 1 else ""
    warnings.append(
        f"time jumps from {before:.3f} s to {after:.3f} s{others}; read from the beginning"
    )
    return True


def _keeps_times(container: InputContainer, stream: VideoStream, scan: PacketScan) -> bool:
    """Return whether a picture has the same time wherever reading begins.

    In a program stream the demuxer fills in times it has not read, and in AVI it counts packets,
    which goes wrong once some are lost.
    """
    damaged_avi = container.format.name == "avi" and stream.frames != scan.num_packets
    return container.format.name != "mpeg" and not damaged_avi


def _shown_pts(scan: PacketScan, first_pts: int, warnings: list[str]) -> Int64Array:
    listed = scan.pts[:-1] if scan.cut_off and len(scan.pts) > 1 else scan.pts
    pts, repeated = distinct(listed)
    shown = pts[pts >= first_pts]
    if len(listed) < len(scan.pts):
        warnings.append("the data is cut off within the last picture, which is left out")
    if len(repeated):
        warnings.append(f"{len(repeated)} pictures share their time with another and are left out")
    if len(shown) < len(pts):
        warnings.append(f"the first {len(pts) - len(shown)} pictures cannot be decoded")
    return shown


def _header_warnings(container: InputContainer, stream: VideoStream, scan: PacketScan) -> list[str]:
    promised = stream.frames
    if "mov" in container.format.name:
        # It counts what an edit list cuts away, the demuxer's own list does not.
        promised = min(promised, len(stream.index_entries))
    if promised > scan.num_packets > 0:
        return [f"holds {scan.num_packets} of the {promised} pictures its header promises"]
    if stream.frames or not scan.pts or scan.num_steps_back or not container.duration:
        return []
    time_base = float(stream.time_base or 1)
    first, last = min(scan.pts) * time_base, max(scan.pts) * time_base
    promised_seconds = container.duration / av.time_base
    if "matroska" in container.format.name and promised_seconds > first:
        # Its header tells when the clip ends rather than how long it is.
        promised_seconds -= first
    if last - first < 0.95 * promised_seconds - 1:
        return [f"holds {last - first:.1f} s of the {promised_seconds:.1f} s promised"]
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
