"""Pictures that resizing has trouble with."""

import numpy as np

from workers.arrays import UInt8Array


def draw_picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """Draw smooth colours with hard edges, so that resizing rings and clips at both ends."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases, rates = rng.uniform(0, 6, 3), rng.uniform(0.05, 0.6, (3, 2))
    waves = np.sin(y[..., None] * rates[:, 0] + x[..., None] * rates[:, 1] + phases)
    blocks = rng.integers(0, 2, (height // 9 + 1, width // 7 + 1, 3)) * 2 - 1
    edges = blocks[y // 9, x // 7]
    return ((waves + edges + 2) * 63.75).astype(np.uint8)
