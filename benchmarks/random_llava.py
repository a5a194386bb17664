"""LLaVA-NeXT in its real geometry with random weights, made on the device: nothing is on disk.

The tower ends with the layer whose hidden states are used (CLIP-L has one more), for whoever runs
it. No token ends an answer, so that every answer has the length asked for.
"""

from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from workers.vision.geometry import read_geometry
from workers.vision.normalize import Normalization
from workers.vision.weights import VisionModel

IMAGE_TOKEN = 3
_PINPOINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


def llava_next_8b() -> LlavaNextConfig:
    """Return CLIP-L/336 before Llama-3-8B, as ``llama3-llava-next-8b`` has them."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    text = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
    return _config(
        {**vision, "num_hidden_layers": 23, "image_size": 336},
        {**text, "num_hidden_layers": 32, "vocab_size": 128_320, "rope_theta": 500_000.0},
    )


def small_llava() -> LlavaNextConfig:
    """Return the same on a scale that a test can run."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8}
    return _config(
        {**vision, "num_hidden_layers": 2, "image_size": 56},
        {**text, "num_hidden_layers": 2, "vocab_size": 128, "rope_theta": 10_000.0},
    )


def _config(vision: dict[str, Any], text: dict[str, Any]) -> LlavaNextConfig:
    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(patch_size=14, **vision),
        text_config=LlamaConfig(
            num_key_value_heads=text["num_attention_heads"] // 4,
            max_position_embeddings=8192,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=1,
            **text,
        ),
        image_grid_pinpoints=[
            [a * vision["image_size"], b * vision["image_size"]] for a, b in _PINPOINTS
        ],
        image_token_index=IMAGE_TOKEN,
        vision_feature_layer=-1,
    )


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
