"""What a frame adds to what a clip has already shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruner.nodes import tokens_per_block
from pruner.rounding import snap


class Novelty:
    """Novelty of frames against the last emitted base token at each position.

    A token that its anchor still represents is no emission and leaves the anchor alone, so a slow
    drift adds up until it crosses the threshold; comparing with the previous frame never sees it.
    Frames are fed in source order; equal frames in equal order give equal numbers, however they
    are split into calls.
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
    def add(
        self, positions: Tensor, features: Tensor, counts: Sequence[int] | None = None
    ) -> Tensor:
        """Measure frames one after another; each one's new tokens become anchors for the next.

        Args:
            positions: (k,) int64, the base positions of the emitted tokens of all frames, one frame
                after another; distinct inside a frame.
            features: (k, dim) floating point, their features; a zero vector resembles nothing.
            counts: how many of the k tokens each frame has; None for one frame.

        Returns:
            (F,) float64, for each frame the mean over its tokens of 1 - cos(token, anchor), in
            [0, 2], counting 1 where nothing was emitted before; 1.0 for a frame without base
            tokens. On the device of the anchors, for which only the checks wait, once a call.

        Raises:
            ValueError: shapes that do not fit, positions out of range or repeated, NaN features.
                Nothing is added then.

        Cost: O(k dim).
        """
        sizes = [len(positions)] if counts is None else list(counts)
        self._check(positions, features, sizes)
        novelty = torch.ones(len(sizes), dtype=torch.float64, device=self._anchors.device)
        for frame, (own, tokens) in enumerate(
            zip(positions.split(sizes), features.split(sizes), strict=True)
        ):
            if len(own):
                novelty[frame] = self._add_frame(own, tokens)
        return snap(novelty)

    def _add_frame(self, positions: Tensor, features: Tensor) -> Tensor:
        """Mean novelty of one frame, 0-d float64, without waiting for the device."""
        size = tokens_per_block(features)
        blocks = zip(positions.split(size), features.split(size), strict=True)
        return torch.cat([self._add_tokens(*block) for block in blocks]).mean()

    def _add_tokens(self, positions: Tensor, features: Tensor) -> Tensor:
        """Novelty of each of some tokens (k, dim), (k,) float64."""
        units = normalize(features.float(), dim=1)  # (k, dim)
        seen, anchors = self._seen[positions], self._anchors[positions]
        cosine = (units.double() * anchors.double()).sum(dim=1).clamp(-1, 1)
        stays = seen & (cosine >= self._similarity)
        self._anchors[positions] = torch.where(stays[:, None], anchors, units)
        self._seen[positions] = True
        return torch.where(seen, 1 - cosine, 1.0)

    def _check(self, positions: Tensor, features: Tensor, sizes: list[int]) -> None:
        """Refuse what does not fit, for all frames at once."""
        num_base, dim = self._anchors.shape
        expected, shape = (len(positions), dim), tuple(features.shape)
        if positions.ndim != 1 or shape != expected:
            raise ValueError(f"one feature row per position: {expected = }, {shape = }")
        if sum(sizes) != len(positions) or min(sizes, default=0) < 0:
            raise ValueError(f"counts of all positions: {sizes = }, {len(positions) = }")
        if not len(positions):
            return
        frame = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        keys = (frame.to(positions.device) * num_base + positions).sort().values
        checks = (
            ((positions < 0) | (positions >= num_base)).any(),
            (keys.diff() == 0).any(),
            ~torch.isfinite(torch.stack(features.aminmax())).all(),
        )
        outside, repeated, not_finite = torch.stack(checks).tolist()
        if outside:
            raise ValueError(f"positions are below {num_base = }: {positions = }")
        if repeated:
            raise ValueError(f"a position is emitted once per frame: {positions = }")
        if not_finite:
            raise ValueError("features hold NaN or infinite tokens")
