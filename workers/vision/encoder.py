"""A model's vision tower and projector, loaded alone and run over the tiles of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch

from pruner.layout import FrameLayout
from workers.arrays import UInt8Array
from workers.vision.geometry import FrameGeometry
from workers.vision.grid import assemble_grid
from workers.vision.normalize import normalize
from workers.vision.transfer import stack_on
from workers.vision.weights import VisionModel, load_vision

TILES_PER_PASS = 20
"""Tiles of one forward pass of fixed size: four frames of 2 x 2 tiles and their bases."""
_SMALL_TOWER = 100_000_000
"""Multiplications of weights for one tile below which a CPU, too, makes passes of fixed size.

Such a pass is mostly the cost of calling its operators: a model of 20 million took a third less CPU
time for 20 tiles than for four times five; the embedded one has 49 million. A large tower gains
nothing, and padding would cost it seconds.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFeatures:
    """Projected features of frames of one layout: what the language model would see, unpruned.

    ``base`` is (n, num_base, hidden), ``grid`` (n, rows, columns, hidden) after unpadding, (n, 0,
    0, hidden) for frames of one tile, and ``newline`` (hidden,), the token that ends each grid row,
    zero in a model without grid.
    """

    base: torch.Tensor
    grid: torch.Tensor
    newline: torch.Tensor

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.base)

    @property
    def layout(self) -> FrameLayout:
        """Where the tokens of each frame stand in its flat sequence."""
        _, rows, columns, _ = self.grid.shape
        return FrameLayout(num_base=self.base.shape[1], rows=rows, columns=columns)


class VisionEncoder:
    """The vision half of a checkpoint: tiles in, visual tokens out.

    Args:
        model: checkpoint folder or hub name, or its vision half, loaded in ``dtype``.
        device: torch device name.
        dtype: torch dtype of weights and features.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(self, model: str | VisionModel, *, device: str, dtype: torch.dtype) -> None:
        if isinstance(model, str):
            model = load_vision(model, dtype)
        self.geometry = model.geometry
        self.device = torch.device(device)
        self.dtype = dtype
        self._normalization = model.normalization
        self._layers = model.layers
        self._first_patch = int(model.has_class_token)
        self._tower = model.tower.to(self.device)
        self._projector = model.projector.to(self.device)
        self.is_small = self._multiplications() < _SMALL_TOWER
        """Whether calling its operators takes longer than they do on a CPU."""
        self._fixed_passes = self.device.type != "cpu" or self.is_small
        self.newline = model.newline.to(self.device)

    @torch.inference_mode()
    def encode(
        self,
        tiles: torch.Tensor | UInt8Array,
        geometries: Sequence[FrameGeometry],
    ) -> list[FrameFeatures]:
        """Encode the tiles of frames, which may differ in size or have no grid.

        The features of a frame do not depend on the frames beside it.

        Args:
            tiles: (sum of num_tiles, tile_size, tile_size, 3) uint8 RGB on any device, each
                frame's base before its grid, as ``cut_pictures`` gives them; not modified.
            geometries: of each frame, as its tiles were cut.

        Returns:
            The frames in order, neighbours of equal geometry in one batch. Features are in the
            encoder's dtype, on its device, and equal transformers' ``get_image_features`` (or
            ``get_video_features``) on the same pixels before packing.

        Raises:
            ValueError: the tiles are not those of the geometries.
        """
        self._check(tiles, geometries)
        if not geometries:
            return []
        tokens = self.encode_tiles(tiles, [geometry.num_tiles for geometry in geometries])
        return list(self.split(tokens, geometries))

    def wait(self) -> None:
        """Return once the device has done all that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _check(self, tiles: torch.Tensor | UInt8Array, geometries: Sequence[FrameGeometry]) -> None:
        num_tiles, size = sum(each.num_tiles for each in geometries), self.geometry.tile_size
        if tuple(tiles.shape) != (num_tiles, size, size, 3):
            raise ValueError(f"not the tiles of these frames: {tiles.shape = } {num_tiles = }")

    def encode_tiles(self, tiles: torch.Tensor | UInt8Array, counts: Sequence[int]) -> torch.Tensor:
        """Return visual tokens (tiles, num_base, hidden) of frames of so many tiles each."""
        if isinstance(tiles, torch.Tensor):
            pixels = tiles.to(self.device)
        else:
            pixels = stack_on(self.device, [tiles])[0]
        # What a tile gives must not depend on what is beside it, also where kernels are chosen by
        # shape: one frame a pass, which fills a CPU, or a fixed number of tiles.
        if not self._fixed_passes:
            return torch.cat([self._encode_pass(part) for part in pixels.split(list(counts))])
        passes = [self._encode_pass(_pad(part)) for part in pixels.split(TILES_PER_PASS)]
        return torch.cat(passes)[: len(pixels)]

    def _multiplications(self) -> int:
        """Return how often weights of tower and projector are multiplied for one tile."""
        parts = (self._tower, self._projector)
        num_weights = sum(weights.numel() for part in parts for weights in part.parameters())
        return num_weights * (self.geometry.num_patches + 1)

    def _encode_pass(self, tiles: torch.Tensor) -> torch.Tensor:
        pixel_values = normalize(tiles, self._normalization, self.dtype)
        return cast(torch.Tensor, self._projector(self._features(pixel_values)))

    def split(
        self, tokens: torch.Tensor, geometries: Sequence[FrameGeometry]
    ) -> Iterator[FrameFeatures]:
        """Yield batches of neighbours of equal geometry."""
        start = 0
        for geometry, group in groupby(geometries):
            stop = start + len(list(group)) * geometry.num_tiles
            frames = tokens[start:stop].unflatten(0, (-1, geometry.num_tiles))
            grid = assemble_grid(frames[:, 1:], geometry)
            yield FrameFeatures(base=frames[:, 0], grid=grid, newline=self.newline)
            start = stop

    def _features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the selected hidden states without a class token: (tiles, patches, hidden)."""
        first = self._first_patch
        if len(self._layers) == 1:
            return cast(torch.Tensor, self._tower(pixel_values).last_hidden_state[:, first:])
        states = self._tower(pixel_values, output_hidden_states=self._layers).hidden_states
        return torch.cat([states[layer][:, first:] for layer in self._layers], dim=-1)


def _pad(tiles: torch.Tensor) -> torch.Tensor:
    """Fill a pass up with black tiles."""
    missing = TILES_PER_PASS - len(tiles)
    return torch.cat([tiles, tiles.new_zeros((missing, *tiles.shape[1:]))])
