"""Small pictures for reports and pages."""

import io

from workers.arrays import UInt8Array


def make_thumbnail(picture: UInt8Array, width: int) -> bytes:
    """Return a picture (height, width, 3) as a JPEG at most ``width`` pixels across."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((width, width * picture.shape[0]), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data.getvalue()
