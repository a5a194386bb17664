"""Tokens as nodes of a graph: their directions and their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MIN_NORM = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nodes:
    """Tokens of F frames as graph nodes, made once by `make_nodes` and shared by both scores.

    Attributes:
        units: (F, N, D) float32 or float64, unit vectors; zero where the token is (nearly) zero.
        norms: (F, N), L2 norms of the features, finite: the weights w of the papers.
    """

    units: Tensor
    norms: Tensor


@torch.no_grad()
def make_nodes(features: Tensor) -> Nodes:
    """Normalise tokens.

    Args:
        features: (F, N, D) floating point; float64 stays, every other type is taken as float32.

    Returns:
        Nodes; one (F, N, D) copy in float32 or float64.

    Raises:
        ValueError: not three axes, not floating point, or NaN or infinite features.
    """
    if features.ndim != 3 or not features.is_floating_point():
        shape, dtype = tuple(features.shape), features.dtype
        raise ValueError(f"features must be floating point (F, N, D): {shape = }, {dtype = }")
    exact = features if features.dtype == torch.float64 else features.float()
    norms = torch.linalg.vector_norm(exact, dim=-1)  # (F, N)
    if not bool(torch.isfinite(norms).all()):
        num_bad = int((~torch.isfinite(norms)).sum())
        raise ValueError(f"features hold NaN, infinite or overflowing tokens: {num_bad = }")
    scale = torch.where(norms >= _MIN_NORM, norms.clamp_min(_MIN_NORM).reciprocal(), 0.0)
    return Nodes(units=exact * scale[..., None], norms=norms)
