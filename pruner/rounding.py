"""Rounding to a coarse scale: numbers that are equal up to the error of arithmetic become equal."""

from __future__ import annotations

import torch
from torch import Tensor

TIE_BITS = 20
"""Multiples of 2^-20: coarser than the float32 error of a cosine, finer than what matters."""

# Scores are compared on 14 bits after the leading one (steps of 3e-5 to 6e-5). Tokens that are
# equal up to the rounding of a float32 run (about 1e-6, and different for another number of
# threads or another batch) then tie nearly always, and the lower index decides everywhere. Steps
# are finer than any difference between scores that means something.
_DROPPED_BITS = 23 - 14


def snap(x: Tensor, bits: int = TIE_BITS) -> Tensor:
    """Round to the nearest multiple of 2^-bits, half to even.

    Args:
        x: floating point, any shape.
        bits: binary places kept, at least 0.

    Returns:
        A new tensor of the same shape and dtype.
    """
    snapped: Tensor = (x * 2**bits).round_().div_(2**bits)
    return snapped


def significant_bits(x: Tensor) -> Tensor:
    """Round to 15 significant bits, whatever the scale.

    Args:
        x: floating point, finite; below 0 counts as 0.

    Returns:
        int32 of the same shape: whole numbers in the order of the rounded values.
    """
    bits = x.float().contiguous().view(torch.int32).clamp_min(0)  # the sign is the highest bit
    return (bits + (1 << (_DROPPED_BITS - 1))) >> _DROPPED_BITS
