"""What a frame adds to what a clip has already shown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

# Differences below 2^-20 are rounding: a repeated frame has novelty 0, not 1e-8.
_STEPS = 2**20


class Novelty:
    """Novelty of frames against the last emitted base token at each position.

    A token that its anchor still represents is no emission and leaves the anchor alone, so a slow
    drift adds up until it crosses the threshold; comparing with the previous frame never sees it.
    Frames are fed in source order; equal frames in equal order give equal numbers.
    """

    def __init__(
        self,
        num_base: int,
        dim: int,
        *,
        similarity: float = 0.8,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start with nothing emitted.

        Args:
            num_base: positions of the base tile.
            dim: width of a token.
            similarity: cosine below which a token is no longer represented by its anchor.
            device: where frames will come from.

        Raises:
            ValueError: a count below 1, or a similarity outside [-1, 1].
        """
        if num_base < 1 or dim < 1:
            raise ValueError(
                f"anchors need at least one position and axis: {num_base = }, {dim = }"
            )
        if not -1 <= similarity <= 1:
            raise ValueError(f"a cosine lies in [-1, 1]: {similarity = }")
        self._similarity = similarity
        self._anchors = torch.zeros(num_base, dim, device=device)
        self._seen = torch.zeros(num_base, dtype=torch.bool, device=device)

    @torch.no_grad()
    def add(self, positions: Tensor, features: Tensor) -> float:
        """Measure a frame, then let its new tokens be the anchors of their positions.

        Args:
            positions: (k,) int64, distinct base positions of the emitted tokens.
            features: (k, dim) floating point, their features; a zero vector resembles nothing.

        Returns:
            Mean over the k tokens of 1 - cos(token, anchor), in [0, 2], counting 1 where nothing
            was emitted before; 1.0 for a frame without base tokens. Cost: O(k dim).

        Raises:
            ValueError: shapes that do not fit, positions out of range or repeated, NaN features.
        """
        self._check(positions, features)
        if positions.numel() == 0:
            return 1.0
        units = normalize(features.float(), dim=1)  # (k, dim)
        seen = self._seen[positions]
        cosine = (units.double() * self._anchors[positions].double()).sum(dim=1).clamp(-1, 1)
        added = torch.where(seen, 1 - cosine, 1.0)
        novelty = round(float(added.mean()) * _STEPS) / _STEPS
        emitted = ~seen | (cosine < self._similarity)
        self._anchors[positions[emitted]] = units[emitted]
        self._seen[positions[emitted]] = True
        return novelty

    def _check(self, positions: Tensor, features: Tensor) -> None:
        num_base, dim = self._anchors.shape
        expected, shape = (len(positions), dim), tuple(features.shape)
        if positions.ndim != 1 or shape != expected:
            raise ValueError(f"one feature row per position: {expected = }, {shape = }")
        if bool(((positions < 0) | (positions >= num_base)).any()):
            raise ValueError(f"positions are below {num_base = }: {positions = }")
        if bool((positions.sort().values.diff() == 0).any()):
            raise ValueError(f"a position is emitted once per frame: {positions = }")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features hold NaN or infinite tokens")
