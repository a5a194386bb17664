"""How many frames are worked on together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# One frame at a time on CPUs: the result then does not depend on how frames are batched.
_CPU_FRAMES, _GPU_FRAMES = 1, 16


def frames_per_batch(device: torch.device) -> int:
    """Frames that are worked on together: what suits the device."""
    return _CPU_FRAMES if device.type == "cpu" else _GPU_FRAMES


def frame_batches(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors of the same frames (axis 0) into the batches that are worked on together."""
    num_frames = frames_per_batch(tensors[0].device)
    return zip(*(tensor.split(num_frames) for tensor in tensors), strict=True)
