"""LLaVA-NeXT's vision tower and projector, loaded alone and run over batches of frames."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import CLIPVisionModel, LlavaNextConfig
from transformers.models.llava_next.modeling_llava_next import LlavaNextMultiModalProjector
from transformers.utils import logging

from workers.checkpoint import (
    PROJECTOR,
    VISION_TOWER,
    build_module,
    read_config,
    read_tensors,
)
from workers.errors import ModelError
from workers.messages import UInt8Array
from workers.vision.geometry import FrameGeometry, read_geometry
from workers.vision.tiles import cut_tiles, normalize, read_normalization


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFeatures:
    """Projected features of frames: what the language model would see, unpruned.

    ``base`` is (n, num_base, hidden), ``grid`` (n, rows, columns, hidden) after unpadding and
    ``newline`` (hidden,), the token that ends each grid row.
    """

    base: torch.Tensor
    grid: torch.Tensor
    newline: torch.Tensor

    def without_grid(self) -> "FrameFeatures":
        """Return the base alone, as if the pictures had no tiles."""
        return FrameFeatures(base=self.base, grid=self.grid[:, :0, :0], newline=self.newline)


class VisionEncoder:
    """The vision half of a LLaVA-NeXT checkpoint: pictures in, visual tokens out.

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
        self._layers = _feature_layers(config)
        self._tower = _load_tower(location, config, max(self._layers), dtype).to(self.device)
        self._projector, newline = _load_projector(location, config, dtype)
        self._projector.to(self.device)
        self.newline = newline.to(self.device)
        # A fixed number of tiles a forward pass makes the result of a frame independent of the
        # frames beside it also where kernels are chosen by shape. One frame fills a CPU.
        self._frames_per_pass = 1 if self.device.type == "cpu" else 4

    @torch.inference_mode()
    def encode(self, frames: UInt8Array, *, base_only: bool = False) -> FrameFeatures:
        """Encode frames of one size.

        Args:
            frames: (n, height, width, 3) uint8 RGB, n at least 1; not modified.
            base_only: leave the high-resolution tiles out; the grid is then empty.

        Returns:
            Features in the encoder's dtype, on its device. Equal to transformers'
            ``get_image_features`` on the same pixels, before packing.
        """
        tile_geometry = self.geometry.without_grid() if base_only else self.geometry
        geometry = tile_geometry.frame(*frames.shape[1:3])
        tiles = torch.from_numpy(cut_tiles(frames, geometry))
        passes = [self._encode_pass(part) for part in tiles.split(self._frames_per_pass)]
        tokens = torch.cat(passes)
        return FrameFeatures(
            base=tokens[:, 0],
            grid=_assemble_grid(tokens[:, 1:], geometry),
            newline=self.newline,
        )

    def _encode_pass(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return visual tokens (n, tiles, num_base, hidden) of n frames' tiles."""
        num_frames, num_tiles = tiles.shape[:2]
        missing = self._frames_per_pass - num_frames
        padded = torch.cat([tiles, tiles.new_zeros((missing, *tiles.shape[1:]))]).to(self.device)
        pixel_values = normalize(padded.flatten(0, 1), self._normalization, self.dtype)
        tokens: torch.Tensor = self._projector(self._features(pixel_values))
        return tokens.view(-1, num_tiles, *tokens.shape[1:])[:num_frames]

    def _features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the selected hidden states without the class token: (tiles, num_base, hidden)."""
        if len(self._layers) == 1:
            return cast(torch.Tensor, self._tower(pixel_values).last_hidden_state[:, 1:])
        states = self._tower(pixel_values, output_hidden_states=True).hidden_states
        return torch.cat([states[layer][:, 1:] for layer in self._layers], dim=-1)


def _assemble_grid(tiles: torch.Tensor, geometry: FrameGeometry) -> torch.Tensor:
    """Join tiles (n, tiles, num_base, hidden) into the canvas' grid and cut its padding off."""
    side = geometry.tiles.tokens_per_side
    down, across = geometry.grid
    if down * across == 0:
        return tiles.new_empty(len(tiles), 0, 0, tiles.shape[-1])
    split = tiles.view(len(tiles), down, across, side, side, -1)
    grid = split.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (n, down * side, across * side, h)
    top = (grid.shape[1] - geometry.rows) // 2
    left = (grid.shape[2] - geometry.columns) // 2
    return grid[:, top : top + geometry.rows, left : left + geometry.columns]


def _feature_layers(config: Any) -> list[int]:
    """Return which hidden states are used, counted from the embeddings as 0."""
    chosen = config.vision_feature_layer
    num_states = config.vision_config.num_hidden_layers + 1
    return [layer % num_states for layer in ([chosen] if isinstance(chosen, int) else list(chosen))]


def _load_tower(location: str, config: Any, num_layers: int, dtype: torch.dtype) -> nn.Module:
    vision_config = config.vision_config
    vision_config.num_hidden_layers = num_layers

    def used(name: str) -> bool:
        parts = name.split(".")
        return parts[:2] != ["encoder", "layers"] or int(parts[2]) < num_layers

    tensors = read_tensors(location, VISION_TOWER, dtype=dtype, wanted=used)
    tower = build_module(
        CLIPVisionModel, location, config=vision_config, tensors=tensors, dtype=dtype
    )
    return cast(nn.Module, tower)


def _load_projector(
    location: str, config: Any, dtype: torch.dtype
) -> tuple[nn.Module, torch.Tensor]:
    tensors = read_tensors(location, PROJECTOR, dtype=dtype)
    newline = tensors.pop("image_newline", None)
    if newline is None:
        raise ModelError(f"{location}: no image_newline, so this is no LLaVA-NeXT checkpoint")
    with torch.device("meta"):
        projector = LlavaNextMultiModalProjector(config)
    weights = {name.removeprefix("projector."): tensor for name, tensor in tensors.items()}
    try:
        projector.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{location}: projector: {' '.join(str(error).split())}") from None
    return projector.eval(), newline
