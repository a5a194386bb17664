"""Checkpoints of every family with random weights: configured as published, but thin.

Sizes in pixels, pinpoints and multipliers are those of the checkpoints named; widths and depths are
not, and of Granite-Vision's layers -24, -20, -12 and -1 only the last keeps its number.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    GenerationConfig,
)

from streaming.bench.random_checkpoint import spread_weights
from tests.workers.llm.tokenizer_kinds import (
    CHATML,
    GRANITE,
    GRANITE_NAMES,
    LLAMA,
    QWEN_NAMES,
    VICUNA,
    granite,
    qwen_2,
    sentencepiece_like,
    special,
)

CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "image_size": 336,
    "patch_size": 14,
}
SIGLIP = CLIP | {"model_type": "siglip_vision_model", "image_size": 384}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
}
LLAVA_PICTURES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}
SIGLIP_PICTURES = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 384, "width": 384},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
}
GRANITE_PINPOINTS = [
    [384 * rows, 384 * columns]
    for rows, most in enumerate([10, 5, 3, 2, 2, 1, 1, 1, 1, 1], start=1)
    for columns in range(2 if rows == 1 else 1, most + 1)
]
VIDEO = VICUNA.replace("image", "video")


def vicuna(*added: str) -> Tokenizer:
    tokenizer = sentencepiece_like(prepend=True)
    tokenizer.add_tokens([special(text) for text in added])
    return tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What one published checkpoint says of itself, thinned."""

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    vision: dict[str, Any] = field(default_factory=lambda: CLIP)
    text: dict[str, Any]
    pictures: dict[str, Any]
    tokenizer: Callable[[], Tokenizer]
    tokenizer_config: dict[str, Any]
    template: str


MODEL_KINDS = {
    "llava-hf/llava-1.5-7b-hf": ModelKind(
        model_type="llava",
        text={"model_type": "llama"},
        pictures=LLAVA_PICTURES,
        tokenizer=vicuna,
        tokenizer_config=LLAMA,
        template=VICUNA,
    ),
    "llava-1.5 with a margin": ModelKind(
        model_type="llava",
        text={"model_type": "mistral", "sliding_window": None},
        pictures=LLAVA_PICTURES | {"image_processor_type": "LlavaImageProcessor", "do_pad": True},
        tokenizer=vicuna,
        tokenizer_config=LLAMA,
        template=VICUNA,
    ),
    "llava-hf/llava-interleave-qwen-0.5b-hf": ModelKind(
        model_type="llava",
        config={"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
        vision=SIGLIP | {"vision_use_head": False},
        text={"model_type": "qwen2", "tie_word_embeddings": True},
        pictures=SIGLIP_PICTURES,
        tokenizer=qwen_2,
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer", **QWEN_NAMES},
        template=CHATML,
    ),
    "ibm-granite/granite-vision-3.2-2b": ModelKind(
        model_type="llava_next",
        config={
            "vision_feature_layer": [-4, -3, -2, -1],
            "vision_feature_select_strategy": "full",
            "image_grid_pinpoints": GRANITE_PINPOINTS,
            "tie_word_embeddings": True,
        },
        vision=SIGLIP,
        text={
            "model_type": "granite",
            "attention_multiplier": 0.015625,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
            "tie_word_embeddings": True,
        },
        pictures=SIGLIP_PICTURES
        | {
            "image_processor_type": "LlavaNextImageProcessor",
            "image_grid_pinpoints": GRANITE_PINPOINTS,
            "crop_size": {"height": 384, "width": 384},
        },
        tokenizer=granite,
        tokenizer_config={"tokenizer_class": "GPT2Tokenizer", **GRANITE_NAMES},
        template=GRANITE,
    ),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": ModelKind(
        model_type="llava_next_video",
        text={"model_type": "llama"},
        pictures=LLAVA_PICTURES | {"image_processor_type": "LlavaNextImageProcessor"},
        tokenizer=lambda: vicuna("<video>"),
        tokenizer_config=LLAMA,
        template=VIDEO,
    ),
}


def write_model(folder: Path, kind: ModelKind) -> Path:
    """Write a checkpoint as transformers saves it, with the tokenizer and settings beside it."""
    tokenizer = kind.tokenizer()
    eos = tokenizer.token_to_id(kind.tokenizer_config["eos_token"])
    text = TEXT | {"vocab_size": tokenizer.get_vocab_size(), "eos_token_id": eos} | kind.text
    config = CONFIG_MAPPING[kind.model_type](
        vision_config=kind.vision,
        text_config=text,
        **{
            f"{modality}_token_index": tokenizer.token_to_id(f"<{modality}>")
            for modality in ("image", "video")
        },
        **kind.config,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config)
        spread_weights(model)
    model.generation_config = GenerationConfig(eos_token_id=eos, pad_token_id=eos)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(kind.template, encoding="utf-8")
    is_full = kind.config.get("vision_feature_select_strategy") == "full"
    processor = {
        "patch_size": 14,
        "vision_feature_select_strategy": "full" if is_full else "default",
        "num_additional_image_tokens": 0 if is_full else 1,
    }
    files = {
        "tokenizer_config": kind.tokenizer_config,
        "preprocessor_config": kind.pictures,
        "processor_config": processor,
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
