"""Frames of a video as one reads them with PyAV and nothing else."""

from collections.abc import Sequence

import numpy as np

from workers.arrays import UInt8Array


def read_pictures(clip: str, frame_indices: Sequence[int]) -> list[UInt8Array]:
    """Decode a video from its start, and keep the frames that are wanted.

    Args:
        clip: path of the video.
        frame_indices: positions in the order of display, ascending.

    Returns:
        (height, width, 3) uint8 RGB each.
    """
    import av

    wanted = set(frame_indices)
    pictures: list[UInt8Array] = []
    with av.open(clip) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                pictures.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if index >= frame_indices[-1]:
                break
    return pictures
