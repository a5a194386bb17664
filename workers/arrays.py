"""Arrays that travel: their types, and tensors to them and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]


def pack(tensor: "torch.Tensor") -> NDArray[Any]:
    """Return a tensor as a C-contiguous array; bfloat16, which numpy lacks, as ``uint16`` bits."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def unpack(array: NDArray[Any], dtype: str) -> "torch.Tensor":
    """Return a copy of a packed array as a tensor of torch's ``dtype``.

    A copy, because an array that came through shared memory is everybody's: a tensor laid over it
    would let one in-place operation change it for all.
    """
    import torch

    tensor = torch.tensor(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
