"""Unit vectors on 8 bits: a cheap product of them tells which tokens cannot be neighbours.

A unit vector u is taken as s q + e: a scale, whole numbers q in [-127, 127] and what rounding
leaves over. By Cauchy-Schwarz the cosine of two differs from s s' (q . q') by no more than
|e| + |e'| + |e| |e'|, and the lengths |e| are measured. Products of whole numbers are exact,
whatever the number of threads, so what is left out never depends on it; and a pair that is left out
is no edge, whatever the features, so leaving it out changes no sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# Below this the products are too small to be worth a look ahead.
_LEAST_TOKENS, _LEAST_DIM = 512, 512
# Tokens that may stand for groups, and cosines from which a token belongs to a group, and to a
# group inside that.
_NUM_LEADERS, _GROUPS = 64, (0.25, 0.5)
# Of the places one part in so many is tried; where it reaches more than this, looking ahead costs
# more than it saves.
_PROBES, _CROWDED = 12, 0.5
# Tokens that are rounded together: their float32 copies stay in the cache.
_BLOCK = 64
# Rounding of scales, lengths and of the float32 cosine itself, for each summand of a cosine.
_ROUNDING = 2.0**-23


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coarse:
    """Unit vectors of the N tokens of one frame on 8 bits, similar ones side by side.

    Attributes:
        order: (N,) int64, the token at each place.
        digits: (N, D) int8, by place, like what follows.
        scales: (N,) float32.
        errors: (N,) float32, the length of what rounding left over.
    """

    order: Tensor
    digits: Tensor
    scales: Tensor
    errors: Tensor

    def reach(self, rows: slice, others: Coarse, places: slice, similarity: float) -> Tensor:
        """Find the tokens that may be neighbours of one of some rows.

        Args:
            rows: places of this frame.
            others: of the same width.
            places: of `others`, where to look.
            similarity: cosine from which two tokens are neighbours.

        Returns:
            (k,) int64, tokens of `others`; those that are missing have no neighbour in the rows.
        """
        products = torch._int_mm(self.digits[rows], others.digits[places].T)
        largest = products.float().mul_(self.scales[rows, None]).amax(dim=0)
        cosines = largest * others.scales[places]
        error, errors = self.errors[rows].max(), others.errors[places]
        slack = error + errors * (1 + error) + self.digits.shape[1] * _ROUNDING
        return others.order[places][cosines >= similarity - slack]


def coarsen(units: Tensor) -> Coarse | None:
    """Round unit vectors to 8 bits and put similar ones side by side.

    Args:
        units: (f, N, D), of length 1 or 0.

    Returns:
        None where it would gain nothing: several frames at once, a device other than a CPU with
        products of 8 bits, few or short tokens, another dtype than float32, or neighbours all over.

    Cost: O(N D), and a product of an eighth of the tokens with all others on 8 bits.
    """
    num_frames, num_tokens, dim = units.shape
    is_large = num_tokens >= _LEAST_TOKENS and dim >= _LEAST_DIM
    fits = units.is_cpu and units.dtype == torch.float32 and num_frames == 1
    if not (fits and is_large and _multiplies_bytes()):
        return None
    digits, scales, errors = _round(units[0])
    order = _group(digits, scales)
    coarse = Coarse(
        order=order,
        digits=digits.index_select(0, order),
        scales=scales[order],
        errors=errors[order],
    )
    probe = slice(num_tokens // 2, num_tokens // 2 + num_tokens // _PROBES)
    reached = coarse.reach(probe, coarse, slice(None), _GROUPS[-1])
    return coarse if len(reached) <= _CROWDED * num_tokens else None


@cache
def _multiplies_bytes() -> bool:
    """Whether this CPU has instructions for products of 8 bits that outrun those of float32."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # older releases have it not
    capabilities = {} if tell is None else tell()
    return bool(capabilities.get("amx_int8") or capabilities.get("avx512_vnni"))


def _round(units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Digits (N, D), scales (N,) and errors (N,) of unit vectors (N, D)."""
    digits = torch.empty_like(units, dtype=torch.int8)
    scales, errors = units.new_empty(len(units)), units.new_empty(len(units))
    buffers = units.new_empty(2, _BLOCK, units.shape[1])
    for start in range(0, len(units), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = units[block]
        exact, rounded = buffers[:, : len(own)]
        scale = torch.maximum(own.amax(dim=1), -own.amin(dim=1)).div_(127)
        torch.mul(own, scale.clamp_min(1e-30).reciprocal()[:, None], out=exact)
        digits[block] = torch.round(exact, out=rounded)
        scales[block] = scale
        errors[block] = torch.linalg.vector_norm(exact.sub_(rounded), dim=1) * scale
    return digits, scales, errors


def _group(digits: Tensor, scales: Tensor) -> Tensor:
    """Order tokens by the leader they resemble most."""
    num_tokens = len(digits)
    candidates = torch.arange(_NUM_LEADERS) * num_tokens // _NUM_LEADERS
    cosines = torch._int_mm(digits[candidates], digits.T) * scales * scales[candidates, None]
    key = torch.zeros(num_tokens, dtype=torch.int64)
    for least in _GROUPS:
        leaders = _uncovered(cosines[:, candidates] >= least)
        key = key * _NUM_LEADERS + cosines[leaders].argmax(dim=0)
    return key.argsort(stable=True)


def _uncovered(near: Tensor) -> list[int]:
    """Candidates that resemble no candidate chosen before, for resemblances (n, n)."""
    chosen: list[int] = []
    for candidate, others in enumerate(near.tolist()):
        if not any(others[leader] for leader in chosen):
            chosen.append(candidate)
    return chosen
