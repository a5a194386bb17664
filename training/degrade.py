"""What a real file does to pictures: JPEG-like and H.264 round trips, as augmentation."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from training.photographs import Picture


def jpeg_round_trip(picture: Picture, quality: int) -> Picture:
    """Return ``picture`` after JPEG compression: cheap, and close to what a key frame suffers."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def h264_round_trip(pictures: list[Picture], crf: int) -> list[Picture]:
    """Return ``pictures``, all of one even size, after H.264 compression in memory."""
    buffer = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(buffer, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=2, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.time_base = Fraction(1, 2)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as source:
        decoded = [
            np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
            for frame in source.decode(video=0)
        ]
    if len(decoded) != len(pictures):
        raise RuntimeError(f"frames lost on the way: {len(decoded) = } {len(pictures) = }")
    return decoded


def degrade(generator: np.random.Generator, pictures: list[Picture]) -> list[Picture]:
    """Return ``pictures`` as they are, or after one of the round trips, at random."""
    kind = generator.random()
    if kind < 0.3:
        return pictures
    if kind < 0.9:
        quality = int(generator.integers(60, 96))
        return [jpeg_round_trip(picture, quality) for picture in pictures]
    return h264_round_trip(pictures, int(generator.integers(16, 27)))
