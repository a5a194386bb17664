"""Loading the language half of a checkpoint."""

from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig

from workers.checkpoint import LANGUAGE_MODEL, build_module, read_tensors
from workers.errors import ModelError
from workers.families import load_config


def load_language_model(location: str, dtype: torch.dtype) -> Any:
    """Return transformers' causal language model with the weights of a LLaVA checkpoint.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.
        dtype: torch dtype of the weights.

    Raises:
        ModelError: the checkpoint cannot be used, or not all of its layers are of attention.
    """
    whole = load_config(location)
    config = whole.text_config
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{location}: a {config.model_type!r} is no language model")
    tensors = read_tensors(location, LANGUAGE_MODEL, dtype=dtype)
    config.tie_word_embeddings = "lm_head.weight" not in tensors
    model = build_module(
        MODEL_FOR_CAUSAL_LM_MAPPING[type(config)],
        location,
        config=config,
        tensors=tensors,
        dtype=dtype,
    )
    layers = getattr(model.base_model, "layers", [None])
    if any(getattr(layer, "self_attn", None) is None for layer in layers):
        raise ModelError(
            f"{location}: a {type(model).__name__} cannot read clips: not all of its layers are of "
            "attention, as those of Llama, Mistral, Qwen2 and Granite are"
        )
    try:
        model.generation_config = GenerationConfig.from_pretrained(location)
    except OSError:
        model.generation_config = GenerationConfig.from_model_config(whole)
    return model
