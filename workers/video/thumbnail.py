"""Small pictures for reports and pages."""

import io

from workers.arrays import UInt8Array

_HEAD_BYTES = 1024


def make_thumbnail(picture: UInt8Array, width: int) -> bytes:
    """Return a picture (height, width, 3) as a JPEG at most ``width`` across and twice as high."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((width, 2 * width), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data.getvalue()


def most_thumbnail_bytes(size: tuple[int, int], width: int) -> int:
    """Return the most bytes that the thumbnail of a picture (height, width) takes.

    Of pure noise a JPEG of this quality has some 0.75 bytes a pixel; it is reckoned with one.
    """
    scale = min(1.0, width / size[1], 2 * width / size[0])
    return int(size[0] * size[1] * scale * scale) + _HEAD_BYTES
