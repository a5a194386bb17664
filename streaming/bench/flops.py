"""Floating-point operations that a LLaVA needs, and those that a machine can do.

Counted are the products of matrices, two operations for each multiplication with its addition;
norms, softmax and the prompt's embedding are left out. Causal attention counts its lower half.
"""

import time
from typing import Any

import numpy as np


def vision_flops(config: Any, num_layers: int, num_tiles: int) -> float:
    """Return the operations of the vision tower and the projector on some tiles.

    Args:
        config: transformers' configuration of the whole.
        num_layers: of the tower that are run.
        num_tiles: base and grid tiles of all frames.
    """
    vision, out = config.vision_config, config.text_config.hidden_size
    hidden, wide = vision.hidden_size, vision.intermediate_size
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = patches + (config.vision_feature_select_strategy == "default")  # a class token
    layer = 2 * tokens * (4 * hidden * hidden + 2 * hidden * wide) + 4 * tokens * tokens * hidden
    embedding = 2 * patches * 3 * vision.patch_size**2 * hidden
    num_features = hidden * np.size(config.vision_feature_layer)
    projector = 2 * patches * (num_features * out + out * out)
    return float(num_tiles * (num_layers * layer + embedding + projector))


def prefill_flops(
    config: Any, num_tokens: int, *, layer: int = 0, num_keep: int | None = None
) -> float:
    """Return the operations of the language model that reads a prompt of so many tokens.

    Args:
        config: the language model's own, of the Llama kind: gated, with grouped keys and values.
        num_tokens: of text and frames; logits are computed for the last.
        layer: K, the first layer (0-based) that works on the kept tokens only.
        num_keep: tokens of text and frames that layers from K on work on; None for all.
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries = head * config.num_attention_heads
    keys = head * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    products = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * wide

    def layers(number: int, length: int) -> Any:
        return number * (2 * length * products + 2 * length * length * queries)

    layer = min(layer, config.num_hidden_layers)
    later = layers(config.num_hidden_layers - layer, num_tokens if num_keep is None else num_keep)
    return float(layers(layer, num_tokens) + later + 2 * hidden * config.vocab_size)


def peak_flops(device: str, dtype: Any, *, repeats: int = 7) -> float:
    """Return the operations a second of the fastest of some square matrix products, after one.

    Args:
        device: torch device name.
        dtype: of the matrices; products of float32 are true float32, as torch has them.
        repeats: products that are timed.
    """
    import torch

    side = 2048 if device == "cpu" else 8192
    matrix = torch.ones(side, side, device=device, dtype=dtype)

    def seconds() -> float:
        begin = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        return time.perf_counter() - begin

    seconds()
    return 2.0 * side**3 / min(seconds() for _ in range(repeats))
