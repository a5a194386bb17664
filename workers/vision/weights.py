"""The weights of the vision half of a LLaVA-NeXT checkpoint, and which layers of it are used."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import CLIPVisionModel, LlavaNextConfig
from transformers.models.llava_next.modeling_llava_next import LlavaNextMultiModalProjector
from transformers.utils import logging

from workers.checkpoint import PROJECTOR, VISION_TOWER, build_module, read_config, read_tensors
from workers.errors import ModelError
from workers.vision.geometry import TileGeometry, read_geometry
from workers.vision.normalize import Normalization, read_normalization


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisionModel:
    """The vision half of a LLaVA-NeXT: its modules, and how pictures come to them.

    ``layers`` are the hidden states of ``tower`` that ``projector`` takes, counted from the
    embeddings as 0; the tower has none behind the last of them. ``newline`` is (hidden,).
    """

    geometry: TileGeometry
    normalization: Normalization
    layers: list[int]
    tower: nn.Module
    projector: nn.Module
    newline: torch.Tensor


def load_vision(location: str, dtype: torch.dtype) -> VisionModel:
    """Return the vision half of a checkpoint, on the CPU.

    Only the tower, the projector and the newline embedding are read, and of the tower only the
    layers up to the last that ``vision_feature_layer`` uses.

    Args:
        location: checkpoint folder or hub name.
        dtype: torch dtype of the weights.

    Raises:
        ModelError: the checkpoint cannot be used.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    raw = read_config(location)
    geometry, normalization = read_geometry(raw), read_normalization(location)
    config = LlavaNextConfig(**raw)
    layers = feature_layers(config)
    tower = load_tower(location, config, max(layers), dtype)
    projector, newline = load_projector(location, config, dtype)
    return VisionModel(
        geometry=geometry,
        normalization=normalization,
        layers=layers,
        tower=tower,
        projector=projector,
        newline=newline,
    )


def feature_layers(config: Any) -> list[int]:
    """Return which hidden states a ``LlavaNextConfig`` uses, counted from the embeddings as 0."""
    chosen = config.vision_feature_layer
    num_states = config.vision_config.num_hidden_layers + 1
    return [layer % num_states for layer in ([chosen] if isinstance(chosen, int) else list(chosen))]


def load_tower(location: str, config: Any, num_layers: int, dtype: torch.dtype) -> nn.Module:
    """Return the first ``num_layers`` layers of the vision tower, on the CPU.

    Raises:
        ModelError: a tensor is missing or has another shape than the configuration says.
    """
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


def load_projector(
    location: str, config: Any, dtype: torch.dtype
) -> tuple[nn.Module, torch.Tensor]:
    """Return the projector and the newline embedding (hidden,), on the CPU.

    Raises:
        ModelError: a tensor is missing or has another shape than the configuration says.
    """
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
