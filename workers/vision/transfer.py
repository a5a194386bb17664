"""Arrays of pixels to the device that works on them."""

from collections.abc import Sequence

import numpy as np
import torch

from workers.arrays import UInt8Array


def stack_on(device: torch.device, arrays: Sequence[UInt8Array]) -> torch.Tensor:
    """Return uint8 arrays of one shape as one tensor (n, *shape) on ``device``.

    The arrays may be read-only and are not shared. To a CUDA device they go through page-locked
    memory, and the call returns before the copy has ended: work queued on the device afterwards
    waits for it, the CPU does not.
    """
    shape = (len(arrays), *arrays[0].shape)
    pinned = device.type == "cuda"
    stacked = torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=pinned)
    np.stack(arrays, out=stacked.numpy())
    return stacked.to(device, non_blocking=pinned)
