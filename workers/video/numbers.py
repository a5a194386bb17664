"""Clips whose pictures have to be known by their number, as their times are missing or wrong."""

from collections.abc import Iterator

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.arrays import Int64Array
from workers.video.packets import PacketScan, ascending

_MAX_COUNTED_PIXELS = 1_500_000_000


def needs_numbers(
    container: InputContainer, stream: VideoStream, scan: PacketScan, shown: list[int | None]
) -> bool:
    """Return whether packet times fail to tell the pictures apart.

    ``shown`` are the times of the first pictures decoded.
    """
    # AVI stores no presentation times: where order and time differ they are guesses.
    may_reorder = scan.reordered or stream.codec_context.has_b_frames
    reordered_avi = container.format.name == "avi" and may_reorder
    half_without_time = 2 * len(scan.pts) < scan.num_shown
    known = [time for time in shown if time is not None]
    unknown_time = len(known) < len(shown) or not np.isin(known, np.array(scan.pts)).all()
    two_packets_each = packets_per_picture(scan, shown) > 1
    no_times = half_without_time or unknown_time
    return bool(reordered_avi or no_times or scan.num_steps_back or two_packets_each)


def packets_per_picture(scan: PacketScan, shown: list[int | None]) -> int:
    """Return 2 where each field of a picture comes in a packet with its own time, else 1."""
    times = [time for time in shown if time is not None]
    if len(times) < 2:
        return 1
    pts = np.array(scan.pts, np.int64)
    between = np.count_nonzero((min(times) <= pts) & (pts < max(times)))
    return 2 if between > 1.5 * (len(times) - 1) else 1


def number_pictures(
    stream: VideoStream,
    scan: PacketScan,
    shown: list[int | None],
    pictures: Iterator[VideoFrame],
    picture_pixels: int,
    warnings: list[str],
) -> Int64Array:
    """Return one ascending time for each picture a sequential decode shows.

    ``pictures`` go on where ``shown`` ends. They are decoded to be counted if that is quick, else
    the packets stand for them. Cost: decoding at most 1.5 billion pixels.
    """
    reason = f"the clock of its pictures steps back {scan.num_steps_back} times"
    if not scan.num_steps_back:
        reason = "pictures carry no usable times"
    warnings.append(f"{reason}: they are counted, and read from the beginning")
    packets_each = packets_per_picture(scan, shown)
    if scan.num_shown * picture_pixels > _MAX_COUNTED_PIXELS:
        warnings.append("too long to be counted: its packets stand for its pictures")
        times: list[int | None] = [None] * (scan.num_shown // packets_each)
    else:
        times = [*shown, *(picture.pts for picture in pictures)]
    rate = stream.average_rate or stream.guessed_rate or 25
    step = max(1, round(1 / (rate * (stream.time_base or 1))))
    known = [time for time in times if time is not None]
    if scan.num_steps_back and len(known) == len(times):
        return ascending(known, step)
    clock = scan.clock[::packets_each]
    if len(clock) < len(times):
        return np.arange(len(times)) * step
    return ascending(clock, step)[: len(times)]
