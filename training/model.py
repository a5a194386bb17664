"""The tiny LLaVA-NeXT: transformers' own classes, small numbers."""

import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from training.canvas import GEOMETRY
from training.words import IMAGE_TOKEN, MAX_POSITIONS
from workers.vision.normalize import CLIP_MEAN, CLIP_STD


def build_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int = 192,
    vision_size: int = 128,
    num_layers: int = 6,
    num_vision_layers: int = 5,
) -> LlavaNextForConditionalGeneration:
    """Return an untrained model; its random state is torch's.

    As in the real checkpoints the features are taken before the last vision layer, which
    therefore stays untrained. ``rope_theta`` is large, so that half of every head hardly turns
    over a whole clip and can match by content at any distance.
    """
    vision = CLIPVisionConfig(
        hidden_size=vision_size, intermediate_size=3 * vision_size,
        num_hidden_layers=num_vision_layers, num_attention_heads=vision_size // 32,
        image_size=GEOMETRY.tile_size, patch_size=GEOMETRY.patch_size, projection_dim=vision_size,
        hidden_act="gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden_size, intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers, num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32, max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaNextConfig(
        vision_config=vision, text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_grid_pinpoints=[list(pinpoint) for pinpoint in GEOMETRY.pinpoints],
        image_seq_length=GEOMETRY.num_base, tie_word_embeddings=False,
        projector_hidden_act="gelu", vision_feature_select_strategy="default",
    )  # fmt: skip
    model = LlavaNextForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, do_sample=False, max_new_tokens=8,
    )  # fmt: skip
    return model


def to_pixel_values(tiles: torch.Tensor) -> torch.Tensor:
    """Return uint8 tiles (n, 56, 56, 3) as the floats (n, 3, 56, 56) the vision tower expects.

    As ``workers.vision.normalize`` but for the last bit, because it divides by 255: the embedded
    checkpoint was trained so, and a run follows its course to the bit only with the same pixels.
    """
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (CLIP_MEAN, CLIP_STD))
    return (tiles.permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std


def vision_features(
    model: LlavaNextForConditionalGeneration, tiles: torch.Tensor, *, frozen_tower: bool = False
) -> torch.Tensor:
    """Return projected features (n, 64, hidden) of uint8 tiles (n, 56, 56, 3).

    The same numbers as ``get_image_features``; the last layer, whose output nobody reads, is
    not run.
    """
    tower = model.model.vision_tower
    pixels = to_pixel_values(tiles)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_tower):
        hidden = tower.pre_layrnorm(tower.embeddings(pixels))
        for layer in tower.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
    features: torch.Tensor = model.model.multi_modal_projector(hidden[:, 1:])
    return features


def num_parameters(module: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in module.parameters())
