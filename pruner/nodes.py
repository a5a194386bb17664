"""Tokens as nodes of a graph: their directions and their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pruner.batches import frame_batches, frames_per_batch
from pruner.coarse import Coarse, coarsen

_MIN_NORM = 1e-12
# Tokens of one thread whose float32 copy stays in the cache of its core.
_CPU_TOKENS = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodes:
    """Tokens of F frames as graph nodes, made once by `make_nodes` and shared by all scores.

    Attributes:
        units: (F, N, D) float32 or float64, unit vectors; zero where the token is (nearly) zero.
        norms: (F, N), L2 norms of the features, finite: the weights w of the papers.
    """

    units: Tensor
    norms: Tensor

    @cached_property
    def coarse(self) -> Coarse | None:
        """The units on 8 bits, where that saves work; made once for all scores."""
        return coarsen(self.units)

    @property
    def frames_per_batch(self) -> int:
        """Frames that are worked on together."""
        return frames_per_batch(self.units.device, self.units.shape[1])

    def batches(self, num_frames: int | None = None) -> Iterator[Nodes]:
        """Frames that are worked on together; the nodes themselves where those are all."""
        num_frames = num_frames or self.frames_per_batch
        if len(self.units) <= num_frames:
            yield self
            return
        for units, norms in frame_batches(self.units, self.norms, num_frames=num_frames):
            yield Nodes(units=units, norms=norms)


@torch.no_grad()
def make_nodes(features: Tensor) -> Nodes:
    """Normalise tokens.

    Args:
        features: (F, N, D) floating point; float64 stays, every other type is taken as float32.

    Returns:
        Nodes, with one (F, N, D) copy of the features in float32 or float64.

    Raises:
        ValueError: not three axes, not floating point, or NaN or infinite features.
    """
    norms = token_norms(features)
    return Nodes(units=features * inverse_norms(norms)[..., None], norms=norms)


@torch.no_grad()
def node_batches(features: Tensor, num_frames: int | None = None) -> Iterator[Nodes]:
    """Normalise the frames that are worked on together, batch after batch, in one buffer.

    Args:
        features: (F, ..., D) floating point; the axes between are tokens.
        num_frames: that are worked on together, if not what suits their tokens.

    Yields:
        Nodes of some frames, which the next batch overwrites.

    Raises:
        ValueError: as `make_nodes`.
    """
    buffer: Tensor | None = None
    if num_frames is None:
        num_frames = frames_per_batch(features.device, math.prod(features.shape[1:-1]))
    for (frames,) in frame_batches(features, num_frames=num_frames):
        tokens = frames.flatten(1, -2)
        norms = token_norms(tokens)
        buffer = norms.new_empty(tokens.shape) if buffer is None else buffer[: len(tokens)]
        units = torch.mul(tokens, inverse_norms(norms)[..., None], out=buffer)
        yield Nodes(units=units, norms=norms)


@torch.no_grad()
def token_norms(features: Tensor) -> Tensor:
    """L2 norm of each token, without a float32 copy of all of them.

    Args:
        features: (F, N, D) floating point; float64 stays, every other type is taken as float32.

    Returns:
        (F, N) float32 or float64, finite.

    Raises:
        ValueError: as `make_nodes`.
    """
    if features.ndim != 3 or not features.is_floating_point():
        shape, dtype = tuple(features.shape), features.dtype
        raise ValueError(f"features must be floating point (F, N, D): {shape = }, {dtype = }")
    norms = _norms(features)
    check_finite(norms)
    return norms


def check_finite(norms: Tensor) -> None:
    """Raise ValueError unless all norms are finite; waits for the device."""
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        num_bad = int((~finite).sum())
        raise ValueError(f"features hold NaN, infinite or overflowing tokens: {num_bad = }")


def inverse_norms(norms: Tensor) -> Tensor:
    """Return 1 / norm, and 0 for a (nearly) zero vector, which thus stays zero."""
    inverse = norms.clamp_min(_MIN_NORM).reciprocal()
    return inverse.masked_fill(norms < _MIN_NORM, 0.0)


def mean_norms(base_norms: Tensor, grid_norms: Tensor) -> Tensor:
    """Informativeness: mean norm of base (F, N1) and of grid (F, N2) tokens, (F, 2) float64.

    A frame without grid tokens has 0 there.
    """
    means = [
        norms.double().sum(dim=1) / max(norms.shape[1], 1) for norms in (base_norms, grid_norms)
    ]
    return torch.stack(means, dim=1)


def tokens_per_block(tokens: Tensor) -> int:
    """Tokens (..., N, D) that are cast together: few on CPUs, for the cache, all of N on GPUs."""
    if tokens.is_cpu:
        return _CPU_TOKENS * torch.get_num_threads()
    return max(tokens.shape[-2], 1)


def _norms(features: Tensor) -> Tensor:
    if features.dtype in (torch.float32, torch.float64):
        norms: Tensor = torch.linalg.vector_norm(features, dim=-1)
        return norms
    norms = torch.empty(features.shape[:2], dtype=torch.float32, device=features.device)
    size = tokens_per_block(features)
    block = norms.new_empty(size, features.shape[2])
    for frame, own in zip(features, norms, strict=True):
        for tokens, out in zip(frame.split(size), own.split(size), strict=True):
            out.copy_(torch.linalg.vector_norm(block[: len(tokens)].copy_(tokens), dim=-1))
    return norms
