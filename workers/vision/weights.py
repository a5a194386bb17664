"""The weights of the vision half of a LLaVA-NeXT checkpoint, and which layers of it are used."""

from typing import Any, cast

import torch
from torch import nn
from transformers import CLIPVisionModel
from transformers.models.llava_next.modeling_llava_next import LlavaNextMultiModalProjector

from workers.checkpoint import PROJECTOR, VISION_TOWER, build_module, read_tensors
from workers.errors import ModelError


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
