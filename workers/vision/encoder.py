"""LLaVA-NeXT's vision tower and projector, loaded alone and run over the tiles of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from transformers import LlavaNextConfig
from transformers.utils import logging

from pruner.layout import FrameLayout
from workers.arrays import UInt8Array
from workers.checkpoint import read_config
from workers.vision.geometry import FrameGeometry, read_geometry
from workers.vision.grid import assemble_grid
from workers.vision.normalize import normalize, read_normalization
from workers.vision.transfer import stack_on
from workers.vision.weights import feature_layers, load_projector, load_tower

TILES_PER_PASS = 20
"""Tiles of one forward pass on an accelerator: four frames of 2 x 2 tiles and their bases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFeatures:
    """Projected features of frames of one layout: what the language model would see, unpruned.

    ``base`` is (n, num_base, hidden), ``grid`` (n, rows, columns, hidden) after unpadding, (n, 0,
    0, hidden) for frames of one tile, and ``newline`` (hidden,), the token that ends each grid row.
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
    """The vision half of a LLaVA-NeXT checkpoint: tiles in, visual tokens out.

    Only the tower, the projector and the newline embedding are read from the checkpoint, and of
    the tower only the layers up to the last that ``vision_feature_layer`` uses.

    Args:
        location: checkpoint folder or hub name.
        device: torch device name.
        dtype: torch dtype of weights and features.

    Raises:
        ModelError: the checkpoint cannot be used.
    """

    def __init__(self, location: str, *, device: str, dtype: torch.dtype) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        raw = read_config(location)
        self.geometry = read_geometry(raw)
        self.device = torch.device(device)
        self.dtype = dtype
        self._normalization = read_normalization(location)
        config = LlavaNextConfig(**raw)
        self._layers = feature_layers(config)
        self._tower = load_tower(location, config, max(self._layers), dtype).to(self.device)
        self._projector, newline = load_projector(location, config, dtype)
        self._projector.to(self.device)
        self.newline = newline.to(self.device)

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
            encoder's dtype, on its device, and equal transformers' ``get_image_features`` on the
            same pixels before packing.

        Raises:
            ValueError: the tiles are not those of the geometries.
        """
        self._check(tiles, geometries)
        if not geometries:
            return []
        tokens = self.encode_tiles(tiles, [geometry.num_tiles for geometry in geometries])
        return list(self.split(tokens, geometries))

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
        if self.device.type == "cpu":
            return torch.cat([self._encode_pass(part) for part in pixels.split(list(counts))])
        passes = [self._encode_pass(_pad(part)) for part in pixels.split(TILES_PER_PASS)]
        return torch.cat(passes)[: len(pixels)]

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
        """Return the selected hidden states without the class token: (tiles, num_base, hidden)."""
        if len(self._layers) == 1:
            return cast(torch.Tensor, self._tower(pixel_values).last_hidden_state[:, 1:])
        states = self._tower(pixel_values, output_hidden_states=True).hidden_states
        return torch.cat([states[layer][:, 1:] for layer in self._layers], dim=-1)


def _pad(tiles: torch.Tensor) -> torch.Tensor:
    """Fill a pass up with black tiles."""
    missing = TILES_PER_PASS - len(tiles)
    return torch.cat([tiles, tiles.new_zeros((missing, *tiles.shape[1:]))])
