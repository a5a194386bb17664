"""LLaVA-NeXT in its real geometry with random weights, made on the device: nothing is on disk.

The tower ends with the layer whose hidden states are used (CLIP-L has one more), for whoever runs
it. No token ends an answer, so that every answer has the length asked for.
"""

from dataclasses import replace
from typing import cast

import torch
from transformers import (
    GenerationConfig,
    LlamaForCausalLM,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from streaming.bench.random_checkpoint import make_config
from streaming.bench.shapes import Shape
from workers.vision.normalize import Normalization
from workers.vision.tower import read_geometry
from workers.vision.weights import VisionModel

IMAGE_TOKEN = 3


SMALL = Shape(
    tile_size=56,
    vision_size=32,
    vision_wide=64,
    vision_heads=4,
    vision_layers=3,
    text_size=64,
    text_wide=128,
    text_heads=8,
    text_key_heads=2,
    text_layers=2,
    vocabulary=128,
    context_length=8192,
)
"""On a scale that a test can run."""


def make_llava_config(shape: Shape) -> LlavaNextConfig:
    """Return a shape's configuration, the tower without its last layer, whose states are unused."""
    used = replace(shape, vision_layers=shape.vision_layers - 1)
    config = make_config(
        used, image_token=IMAGE_TOKEN, bos_token_id=0, eos_token_id=None, pad_token_id=1
    )
    config.vision_feature_layer = -1
    return cast(LlavaNextConfig, config)


def make_llava(
    config: LlavaNextConfig, *, device: str, dtype: torch.dtype
) -> LlavaNextForConditionalGeneration:
    """Return the model with random weights, ready for inference."""
    default = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaNextForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(default)
    torch.nn.init.normal_(model.model.image_newline, std=0.02)
    model.generation_config = GenerationConfig(pad_token_id=1, eos_token_id=None, do_sample=False)
    return model


def vision_half(model: LlavaNextForConditionalGeneration) -> VisionModel:
    """Return what the vision encoder runs; the weights are shared."""
    geometry = read_geometry(model.config.to_dict())
    return VisionModel(
        geometry=geometry,
        normalization=Normalization(),
        layers=[model.config.vision_config.num_hidden_layers],
        tower=model.model.vision_tower,
        projector=model.model.multi_modal_projector,
        newline=model.model.image_newline.detach(),
    )


def language_half(model: LlavaNextForConditionalGeneration) -> LlamaForCausalLM:
    """Return what the decoder runs; the weights are shared."""
    with torch.device("meta"):
        half = LlamaForCausalLM(model.config.text_config).eval()
    half.model, half.lm_head = model.model.language_model, model.lm_head
    half.generation_config = model.generation_config
    return half
