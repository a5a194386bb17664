"""Picture files, read with Pillow: upright, RGB, within the limits."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from workers.arrays import UInt8Array
from workers.errors import VideoLimitError, VideoOpenError, display_name
from workers.video import limits
from workers.video.fetch import local_path
from workers.video.limits import check_file, check_size

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
# What Pillow raises for damaged content.
_DAMAGE = (OSError, EOFError, ValueError, SyntaxError, TypeError, struct.error)


def is_image(path: str) -> bool:
    """Tell from its header whether a file is a picture that :func:`open_images` knows."""
    try:
        with _open(path):
            return True
    except VideoOpenError:
        return False


def displayed_size(path: str, notes: list[str]) -> tuple[int, int]:
    """Return a picture's upright (height, width) from its header; oddities go to ``notes``.

    Raises:
        VideoOpenError: missing, no picture, or animated.
        VideoLimitError: too many pixels.
    """
    with _open(path) as image:
        if getattr(image, "is_animated", False) and image.format in ("WEBP", "PNG", "AVIF"):
            raise VideoOpenError(
                f"{display_name(path)}: is an animated {image.format}, which is not read here; "
                "convert it to MP4 or GIF"
            )
        num_pages = getattr(image, "n_frames", 1)
        if image.format == "TIFF" and num_pages > 1:
            notes.append(f"{display_name(path)}: the first of its {num_pages} pages is shown")
        width, height = image.size
        return (width, height) if _orientation(image) in _SWAPS_SIDES else (height, width)


def read_image(path: str) -> UInt8Array:
    """Return a picture as (height, width, 3) RGB, upright; transparency is left out.

    Raises:
        VideoOpenError: missing, no picture, or damaged.
        VideoLimitError: too many pixels.
    """
    with _open(path) as image:
        orientation = _orientation(image)
        colors = _to_rgb(image)
    if orientation in _TURNS:
        colors = colors.transpose(_TURNS[orientation])
    return np.asarray(colors)


@contextmanager
def _open(path: str) -> Iterator[Image.Image]:
    """Open a picture without reading its pixels; what goes wrong with it from then on is named."""
    check_file(path)
    Image.init()
    try:
        with _identify(path) as image:
            check_size(display_name(path), *image.size)
            yield image
    except UnidentifiedImageError:
        raise VideoOpenError(f"{display_name(path)}: is not a picture of a known kind") from None
    except Image.DecompressionBombError:
        raise VideoLimitError(
            f"{display_name(path)}: exceeds the limit of {limits.MAX_PIXELS // 1_000_000} million "
            "pixels many times; scale it down first"
        ) from None
    except _DAMAGE as error:
        raise VideoOpenError(f"{display_name(path)}: is damaged ({error})") from None


def _identify(path: str) -> Image.Image:
    with _quiet_pillow():
        return Image.open(
            local_path(path), formats=[name for name in _FORMATS if name in Image.OPEN]
        )


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence warnings of many pixels, for which our limit is lower, and of damaged metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow has turned it already.
    try:
        with _quiet_pillow():
            # PNG's own method would decode the whole picture to look for a late entry.
            return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1  # The pixels may be sound all the same.


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Sixteen bits of grey are scaled; Pillow would cut them off at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way.
    return image.convert("RGB")
