"""Real pictures as backgrounds: frames of videos, and pictures, in a folder of the user's."""

from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.errors import InputError

Picture = NDArray[np.uint8]
_MOST_FRAMES = 12
_MOST_SIDE = 720
_BRIGHTEST = 180
_COLOR = 0.5


def find_photographs(folder: Path) -> tuple[str, ...]:
    """Return the files in ``folder`` that pictures can be read from, by name.

    Raises:
        InputError: There is none.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file())
    found = tuple(str(path) for path in files if _read(str(path)))
    if not found:
        raise InputError(f"--backgrounds {folder}: no video or picture in it that can be read")
    return found


def cut_photograph(path: str, generator: np.random.Generator, width: int, height: int) -> Picture:
    """Return a part of a random frame of a file, (height, width, 3), muted.

    Half of its colour is taken out and white becomes a light grey, as in drawn backgrounds.
    """
    frames = _read(path)
    if not frames:
        raise InputError(f"{path}: no picture in it that can be read")
    frame = frames[int(generator.integers(len(frames)))]
    most = min(frame.shape[1] / width, frame.shape[0] / height)
    scale = most * float(generator.uniform(0.6, 1.0))
    left = float(generator.uniform(0, frame.shape[1] - scale * width))
    top = float(generator.uniform(0, frame.shape[0] - scale * height))
    box = (left, top, left + scale * width, top + scale * height)
    part = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(part, dtype=np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    muted: Picture = ((grey + _COLOR * (pixels - grey)) * (_BRIGHTEST / 255)).astype(np.uint8)
    return muted


@lru_cache(maxsize=64)
def _read(path: str) -> tuple[Picture, ...]:
    """Return up to 12 frames from all over a file; none where it cannot be read."""
    frames = []
    try:
        with av.open(path) as container:
            for frame in container.decode(video=0):
                scale = min(_MOST_SIDE / max(frame.width, frame.height), 1.0)
                width, height = round(frame.width * scale), round(frame.height * scale)
                picture = frame.to_ndarray(format="rgb24", width=width, height=height)
                frames.append(np.asarray(picture, np.uint8))
    except (av.error.FFmpegError, IndexError):
        return ()
    return tuple(frames[:: max(len(frames) // _MOST_FRAMES, 1)][:_MOST_FRAMES])
