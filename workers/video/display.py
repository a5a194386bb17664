"""How a stored picture is displayed: its pixels made square, then turned and mirrored."""

import math
import struct
from dataclasses import dataclass
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from workers.arrays import UInt8Array

_TOLERANCE_DEGREES = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """Displayed size in pixels, and what makes a stored picture upright."""

    width: int
    height: int
    rotation_degrees: int
    """Counter-clockwise."""
    mirrored: bool
    """Left and right are swapped after the rotation."""


def read_display(stream: VideoStream, first: VideoFrame, warnings: list[str]) -> Display:
    """Tell how the pictures of a clip are displayed, as ``ffplay`` does.

    The height stays and the width is stretched by the shape of a pixel, down to an even number;
    square pixels keep an odd width. Then the display matrix is obeyed, mirrored ones included; a
    turn by other than right angles is not, and named in ``warnings``.
    """
    rotation, mirrored = _orientation(first, warnings)
    width, height = _square_width(stream, first), first.height
    if rotation in (90, 270):
        width, height = height, width
    return Display(width=width, height=height, rotation_degrees=rotation, mirrored=mirrored)


class UprightPictures:
    """Turns decoded pictures into upright RGB of one size, whatever size they come in.

    One for each decoder: what it prepares for a size is used again.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> UInt8Array:
        """Return a picture as (height, width, 3) uint8; another size is resampled (bicubic)."""
        display = self._display
        turned = display.rotation_degrees in (90, 270)
        size = (display.height, display.width) if turned else (display.width, display.height)
        same_size = (frame.width, frame.height) == size
        picture: UInt8Array = self._reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format="rgb24",
            interpolation=None if same_size else Interpolation.BICUBIC,
            threads=1,
        ).to_ndarray()  # type: ignore[assignment]
        return set_upright(
            picture, rotation_degrees=display.rotation_degrees, mirrored=display.mirrored
        )


def set_upright(picture: UInt8Array, *, rotation_degrees: int, mirrored: bool) -> UInt8Array:
    """Return a (height, width, 3) picture turned counter-clockwise, then mirrored."""
    turned = np.rot90(picture, k=rotation_degrees // 90)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _square_width(stream: VideoStream, first: VideoFrame) -> int:
    pixel = stream.sample_aspect_ratio
    if not pixel or pixel < 0 or pixel == 1:
        return first.width
    return max(2, int(first.width * pixel) & ~1)


def _orientation(first: VideoFrame, warnings: list[str]) -> tuple[int, bool]:
    degrees, mirrored = _turn(first)
    right_angle = round(degrees / 90) * 90
    if abs(degrees - right_angle) > _TOLERANCE_DEGREES:
        warnings.append(f"a rotation of {degrees:.0f} degrees is ignored")
        return 0, False
    return right_angle % 360, mirrored


def _turn(first: VideoFrame) -> tuple[float, bool]:
    """Return degrees counter-clockwise, and whether a swap of left and right follows."""
    try:
        matrix = cast(SideDataContainer, first.side_data)[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return 0, False
    except ValueError:
        # PyAV gives up on all of it where one kind is new to it (EXIF in JPEG pictures).
        return first.rotation % 360, False
    # A stored point (x, y), y downwards, is displayed at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c
    return math.degrees(math.atan2(-b, a)) % 360, mirrored
