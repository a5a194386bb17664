"""One pass over the packets of a clip: which pictures it promises, and by which clock."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from workers.arrays import Int64Array
from workers.video.container import read_packets
from workers.video.limits import Deadline

_STEP_BACK_SECONDS = 1.0
_VP8_SHOWN = 0x10
_PACKETS_PER_REPORT = 1024


def _times() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class PacketScan:
    """What the packets of displayed pictures say, in the order in which they are stored.

    Times stand in compact arrays: a clip of a day has millions of packets.
    """

    clock: "array[int]" = field(default_factory=_times)
    """Decoding times, presentation times where those are missing; ascends unless time goes back."""
    pts: "array[int]" = field(default_factory=_times)
    keyframe_pts: "array[int]" = field(default_factory=_times)
    num_packets: int = 0
    num_shown: int = 0
    num_steps_back: int = 0
    reordered: bool = False
    """Some picture is shown at another time than it is decoded."""
    open_gop: bool = False
    trimmed: bool = False
    """An edit list cuts pictures away."""
    cut_off: bool = False
    """The last packet is incomplete."""
    encrypted: bool = False
    last_dts: int | None = None

    def distinct_keyframe_pts(self) -> Int64Array:
        """Return the times of the keyframes, ascending, without those another picture shares.

        A seek to such a time would find the keyframe, a sequential decode the other picture.
        """
        _, shared = distinct(self.pts)
        keyframe_pts, _ = distinct(self.keyframe_pts)
        return keyframe_pts[~are_among(keyframe_pts, shared)]


def scan_packets(
    container: InputContainer,
    stream: VideoStream,
    deadline: Deadline,
    report: Callable[[int], object] | None = None,
) -> PacketScan:
    """Read all packets of ``stream`` once without decoding them. Cost: O(packets).

    ``report`` is told now and then how many bytes of the file have been read.
    """
    scan = PacketScan()
    step_back = round(_STEP_BACK_SECONDS / float(stream.time_base or 1))
    is_vp8 = stream.codec_context.name == "vp8"
    for packet in read_packets(container, stream, deadline):
        if packet.size == 0:
            continue
        scan.num_packets += 1
        scan.cut_off = packet.is_corrupt
        if scan.num_packets % _PACKETS_PER_REPORT == 1:
            scan.encrypted |= packet.has_sidedata("encryption_info")
            if report is not None and packet.pos is not None:
                report(packet.pos)
        hidden_vp8 = is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN
        if packet.is_discard:
            scan.trimmed = True
        elif not hidden_vp8:
            _add_picture(scan, packet, step_back)
    return scan


def _add_picture(scan: PacketScan, packet: "Packet[VideoStream]", step_back: int) -> None:
    scan.num_shown += 1
    pts, dts = packet.pts, packet.dts
    clock = pts if dts is None else dts
    if clock is not None:
        scan.num_steps_back += _steps_back(scan, clock, dts, step_back)
        scan.clock.append(clock)
    if pts is None:
        return
    scan.pts.append(pts)
    scan.reordered |= pts != clock
    if packet.is_keyframe:
        scan.keyframe_pts.append(pts)
    elif scan.keyframe_pts:
        scan.open_gop |= pts < scan.keyframe_pts[-1]


def _steps_back(scan: PacketScan, clock: int, dts: int | None, step_back: int) -> bool:
    """Tell whether time goes back here.

    Decoding times never do in one recording, so the least step tells of two that were joined;
    presentation times do from picture to picture.
    """
    if dts is None:
        return bool(scan.clock) and clock < scan.clock[-1] - step_back
    before, scan.last_dts = scan.last_dts, dts
    return before is not None and dts < before


def distinct(times: "array[int]") -> tuple[Int64Array, Int64Array]:
    """Return the different times and the repetitions, both ascending.

    ``np.unique`` hashes, which takes far longer where times are nearly in order.
    """
    ordered = np.sort(np.array(times, np.int64), kind="stable")
    new = np.diff(ordered, prepend=ordered[:1] - 1) > 0
    return ordered[new], ordered[~new]


def are_among(times: Int64Array, ordered: Int64Array) -> NDArray[np.bool_]:
    """Tell of each time whether it is one of some ascending ones."""
    places = np.searchsorted(ordered, times)
    equal: NDArray[np.bool_] = np.append(ordered, times.max(initial=0) + 1)[places] == times
    return equal


def ascending(times: "array[int] | list[int] | Int64Array", default_step: int) -> Int64Array:
    """Return ``times`` with every step that does not go forward replaced by a typical one.

    What follows a step back is shifted as a whole, so its own steps are kept.
    """
    values = np.array(times, np.int64)
    steps = np.diff(values)
    forward = steps[steps > 0]
    typical = int(np.median(forward)) if len(forward) else default_step
    steps[steps <= 0] = max(typical, 1)
    return np.concatenate([values[:1], values[:1] + np.cumsum(steps)])
