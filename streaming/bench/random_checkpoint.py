"""A LLaVA with random weights, of any geometry: the real token counts without real weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from streaming.bench.shapes import Shape
from workers.families import FAMILIES

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
_PATCH_SIZE = 14
_WORDS = """
a about above after all an and animal answer appears at away background before behind below beside
between black blue bottom bright brown building car cat child circle city clip close color corner
count day door down first five floor food four frame front girl glass grass gray green ground hand
hat head high house in is it kitchen last left light line long low man many moving near next night
no not number of off on one open orange over paint people person picture pink plate purple red
right road room round running scene second seen shape short shows side sign sitting six sky small
square standing stone street table tall text the then there thing three to top town track tree
triangle turning two under up video view walking wall water wheel white window with woman wood
yellow yes zero
"""


def write_checkpoint(
    folder: Path,
    *,
    tile_size: int = 336,
    vision_size: int = 64,
    text_size: int = 128,
    num_layers: int = 4,
    context_length: int = 32_768,
    seed: int = 0,
) -> None:
    """Write a small checkpoint; see :func:`write_shape`."""
    shape = Shape(
        tile_size=tile_size,
        vision_size=vision_size,
        vision_wide=2 * vision_size,
        vision_heads=4,
        vision_layers=num_layers,
        text_size=text_size,
        text_wide=2 * text_size,
        text_heads=4,
        text_key_heads=2,
        text_layers=num_layers,
        vocabulary=0,
        context_length=context_length,
    )
    write_shape(folder, shape, seed=seed)


def write_shape(folder: Path, shape: Shape, *, dtype: str = "float32", seed: int = 0) -> None:
    """Write a randomly initialised checkpoint with tokenizer and processor.

    Args:
        folder: where to; made if need be.
        shape: of the models.
        dtype: torch's name of that of the weights.
        seed: of the weights.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = _make_tokenizer()
    config = make_config(
        replace(shape, vocabulary=shape.vocabulary or len(tokenizer)),
        image_token=tokenizer.convert_tokens_to_ids("<image>"),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    _make_model(config, tokenizer, dtype, seed).save_pretrained(folder)
    _make_processor(shape, tokenizer).save_pretrained(folder)


def make_config(shape: Shape, *, image_token: int, **text: Any) -> Any:
    """Return transformers' configuration of a shape.

    Args:
        shape: of the models.
        image_token: id that stands for a picture's tokens in a prompt.
        text: what else the language model's configuration is told.
    """
    from transformers import CONFIG_MAPPING, LlamaConfig

    size, layers = shape.tile_size, list(shape.feature_layers)
    pinpoints = [[a * size, b * size] for a, b in shape.pinpoints]
    tiles = {"image_grid_pinpoints": pinpoints} if FAMILIES[shape.family].has_grid else {}
    return CONFIG_MAPPING[shape.family](
        vision_config=CONFIG_MAPPING[shape.tower](
            hidden_size=shape.vision_size,
            intermediate_size=shape.vision_wide,
            num_hidden_layers=shape.vision_layers,
            num_attention_heads=shape.vision_heads,
            image_size=size,
            patch_size=_PATCH_SIZE,
        ),
        text_config=LlamaConfig(
            hidden_size=shape.text_size,
            intermediate_size=shape.text_wide,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=shape.text_heads,
            num_key_value_heads=shape.text_key_heads,
            vocab_size=shape.vocabulary,
            max_position_embeddings=shape.context_length,
            **text,
        ),
        vision_feature_layer=layers[0] if len(layers) == 1 else layers,
        vision_feature_select_strategy="default" if shape.has_class_token else "full",
        image_token_index=image_token,
        image_seq_length=(size // _PATCH_SIZE) ** 2,
        **tiles,
    )


def _make_processor(shape: Shape, tokenizer: Any) -> Any:
    from transformers import (
        LlavaImageProcessorPil,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
        LlavaProcessor,
    )

    size = shape.tile_size
    options: dict[str, Any] = {"size": {"shortest_edge": size}}
    options["crop_size"] = {"height": size, "width": size}
    if FAMILIES[shape.family].has_grid:
        pinpoints = [[a * size, b * size] for a, b in shape.pinpoints]
        pictures = LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, **options)
    else:
        pictures = LlavaImageProcessorPil(**options)
    make = LlavaNextProcessor if FAMILIES[shape.family].has_grid else LlavaProcessor
    return make(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=_PATCH_SIZE,
        vision_feature_select_strategy="default" if shape.has_class_token else "full",
        num_additional_image_tokens=int(shape.has_class_token),
        chat_template=CHAT_TEMPLATE,
    )


def _make_model(config: Any, tokenizer: Any, dtype: str, seed: int) -> Any:
    import torch
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config)
            spread_weights(model)
            _silence_words(model, tokenizer)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _make_tokenizer() -> Any:
    """Return a byte-level BPE tokenizer with LLaVA's special tokens, trained on a list of words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<s>", "</s>", "<image>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in _WORDS.split()], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
    )


def spread_weights(model: Any) -> None:
    """Scale every matrix by its fan-in, so that features and answers follow the pixels.

    Sharp attention over weak residual text makes each answer depend on the visual tokens kept.
    """
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.3)
    with torch.no_grad():
        model.model.vision_tower.embeddings.patch_embedding.weight.mul_(4)
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.weight.mul_(3)
            layer.self_attn.k_proj.weight.mul_(3)
            layer.self_attn.o_proj.weight.mul_(2)


def _silence_words(model: Any, tokenizer: Any) -> None:
    """Never answer with single bytes, or with what the tokenizer lacks: words read better."""
    import torch

    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    silent = [
        index
        for index, piece in enumerate(pieces)
        if not piece.startswith("\u0120") and index != tokenizer.eos_token_id
    ]
    with torch.no_grad():
        model.lm_head.weight[silent] = 0
        model.lm_head.weight[len(pieces) :] = 0
