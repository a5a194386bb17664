"""One pass over the packets of a clip: which pictures it promises, and by which clock."""

from dataclasses import dataclass, field

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from workers.messages import Int64Array
from workers.video.container import Deadline, read_packets

_STEP_BACK_SECONDS = 1.0
_VP8_SHOWN = 0x10


@dataclass(slots=True)
class PacketScan:
    """What the packets of displayed pictures say, in the order in which they are stored."""

    clock: list[int] = field(default_factory=list)
    """Decoding times, presentation times where those are missing; ascends unless time goes back."""
    pts: list[int] = field(default_factory=list)
    keyframe_pts: list[int] = field(default_factory=list)
    num_packets: int = 0
    num_shown: int = 0
    steps_back: bool = False
    reordered: bool = False
    """Some picture is shown at another time than it is decoded."""
    open_gop: bool = False
    cut_off: bool = False
    """The last packet is incomplete."""
    encrypted: bool = False


def scan_packets(container: InputContainer, stream: VideoStream, deadline: Deadline) -> PacketScan:
    """Read all packets of ``stream`` once without decoding them. Cost: O(packets)."""
    scan = PacketScan()
    step_back = _STEP_BACK_SECONDS / float(stream.time_base or 1)
    is_vp8 = stream.codec_context.name == "vp8"
    for packet in read_packets(container, stream, deadline):
        if packet.size == 0:
            continue
        scan.num_packets += 1
        scan.cut_off = packet.is_corrupt
        scan.encrypted |= packet.has_sidedata("encryption_info")
        hidden_vp8 = is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN
        if not packet.is_discard and not hidden_vp8:
            _add_picture(scan, packet, step_back)
    return scan


def _add_picture(scan: PacketScan, packet: "Packet[VideoStream]", step_back: float) -> None:
    scan.num_shown += 1
    clock = packet.dts if packet.dts is not None else packet.pts
    if clock is not None:
        scan.steps_back |= bool(scan.clock) and clock < scan.clock[-1] - step_back
        scan.clock.append(clock)
    if packet.pts is None:
        return
    scan.pts.append(packet.pts)
    scan.reordered |= packet.pts != clock
    if packet.is_keyframe:
        scan.keyframe_pts.append(packet.pts)
    elif scan.keyframe_pts:
        scan.open_gop |= packet.pts < scan.keyframe_pts[-1]


def ascending(times: list[int], default_step: int) -> Int64Array:
    """Return ``times`` with every step that does not go forward replaced by a typical one.

    What follows a step back is shifted as a whole, so its own steps are kept.
    """
    values = np.array(times, np.int64)
    steps = np.diff(values)
    forward = steps[steps > 0]
    typical = int(np.median(forward)) if len(forward) else default_step
    steps[steps <= 0] = max(typical, 1)
    return np.concatenate([values[:1], values[:1] + np.cumsum(steps)])
