"""How many frames are worked on together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_MOST_FRAMES = 16
# On a CPU frames are worked on together only while calling an operator costs more than it does.
_CPU_PAIRS = 128**2


def frames_per_batch(device: torch.device, num_tokens: int) -> int:
    """Frames that are worked on together, of so many tokens: what suits the device, at least 1."""
    if device.type != "cpu":
        return _MOST_FRAMES
    return max(1, min(_MOST_FRAMES, _CPU_PAIRS // max(num_tokens, 1) ** 2))


def frame_batches(*tensors: Tensor, num_frames: int) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors of the same frames (axis 0) into batches of at most so many."""
    return zip(*(tensor.split(num_frames) for tensor in tensors), strict=True)
