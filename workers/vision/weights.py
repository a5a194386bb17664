"""The weights of the vision half of a checkpoint, and which layers of it are used."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import MODEL_MAPPING
from transformers.models.llava_next.modeling_llava_next import LlavaNextMultiModalProjector
from transformers.models.llava_next_video.modeling_llava_next_video import LlavaNextVideoPooler
from transformers.utils import logging

from workers.checkpoint import PROJECTOR, VISION_TOWER, build_module, read_config, read_tensors
from workers.errors import ModelError
from workers.families import family_of, load_config
from workers.vision.geometry import TileGeometry
from workers.vision.normalize import Normalization, read_normalization
from workers.vision.processor import read_processor
from workers.vision.tower import read_geometry, tower_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisionModel:
    """The vision half of a model: its modules, and how pictures come to them.

    ``layers`` are the hidden states of ``tower`` that ``projector`` takes, counted from the
    embeddings as 0; the tower has none behind the last of them. ``newline`` is (hidden,), zero in a
    model without.
    """

    geometry: TileGeometry
    normalization: Normalization
    layers: list[int]
    tower: nn.Module
    projector: nn.Module
    newline: torch.Tensor
    has_class_token: bool = True


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
    family, kind = family_of(raw), tower_of(raw)
    settings = read_processor(location, family)
    geometry = read_geometry(raw, settings)
    config = load_config(location)
    layers = feature_layers(config)
    tower = load_tower(location, config, max(layers), dtype)
    projector, newline = load_projector(location, config, dtype)
    if family.is_video:
        projector = nn.Sequential(LlavaNextVideoPooler(config), projector)
    if newline is None:
        if family.has_grid:
            raise ModelError(f"{location}: no image_newline, so this is no LLaVA-NeXT checkpoint")
        newline = torch.zeros(config.text_config.hidden_size, dtype=dtype)
    return VisionModel(
        geometry=geometry,
        normalization=read_normalization(settings),
        layers=layers,
        tower=tower,
        projector=projector,
        newline=newline,
        has_class_token=kind.has_class_token,
    )


def feature_layers(config: Any) -> list[int]:
    """Return which hidden states of the tower a model uses, counted from the embeddings as 0."""
    chosen = config.vision_feature_layer
    num_states = config.vision_config.num_hidden_layers + 1
    return [layer % num_states for layer in ([chosen] if isinstance(chosen, int) else list(chosen))]


def load_tower(location: str, config: Any, num_layers: int, dtype: torch.dtype) -> nn.Module:
    """Return the first ``num_layers`` layers of the vision tower, on the CPU.

    Its last hidden state is that of the last of them: what a tower puts behind its layers for other
    uses is left out.

    Raises:
        ModelError: a tensor is missing or has another shape than the configuration says.
    """
    vision_config = config.vision_config
    vision_config.num_hidden_layers = num_layers
    vision_config.vision_use_head = False  # SigLIP's pooling

    def used(name: str) -> bool:
        parts = name.split(".")
        if parts[:2] == ["encoder", "layers"]:
            return int(parts[2]) < num_layers
        return parts[0] != "head"

    tensors = read_tensors(location, VISION_TOWER, dtype=dtype, wanted=used)
    tower = build_module(
        MODEL_MAPPING[type(vision_config)],
        location,
        config=vision_config,
        tensors=tensors,
        dtype=dtype,
    )
    tower.post_layernorm = nn.Identity()  # of CLIP's class token, but of all of SigLIP's patches
    return cast(nn.Module, tower)


def load_projector(
    location: str, config: Any, dtype: torch.dtype
) -> tuple[nn.Module, torch.Tensor | None]:
    """Return the projector and the newline embedding (hidden,) if there is one, on the CPU.

    All families have the same projector.

    Raises:
        ModelError: a tensor is missing or has another shape than the configuration says.
    """
    tensors = read_tensors(location, PROJECTOR, dtype=dtype)
    newline = tensors.pop("image_newline", None)
    with torch.device("meta"):
        projector = LlavaNextMultiModalProjector(config)
    weights = {name.removeprefix("projector."): tensor for name, tensor in tensors.items()}
    try:
        projector.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{location}: projector: {' '.join(str(error).split())}") from None
    return projector.eval(), newline
