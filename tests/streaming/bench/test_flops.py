import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, LlamaConfig, LlavaNextForConditionalGeneration

from streaming.bench.flops import peak_flops, prefill_flops, vision_flops
from workers.llm.layer_pruning import some_layers

NUM_TILES, LENGTH = 3, 40
LAYER, NUM_KEEP = 2, 9


@pytest.fixture(scope="module")
def model(checkpoint) -> LlavaNextForConditionalGeneration:
    """With attention written down as matrix products, which are counted."""
    config = AutoConfig.from_pretrained(checkpoint)
    return LlavaNextForConditionalGeneration.from_pretrained(
        checkpoint, config=config, attn_implementation="eager"
    )


@torch.inference_mode()
def test_the_tower_needs_what_torch_counts(model: LlavaNextForConditionalGeneration) -> None:
    size = model.config.vision_config.image_size
    with FlopCounterMode(display=False) as counted:
        states = model.model.vision_tower(torch.zeros(NUM_TILES, 3, size, size))
        model.model.multi_modal_projector(states.last_hidden_state[:, 1:])
    num_layers = model.config.vision_config.num_hidden_layers
    assert vision_flops(model.config, num_layers, NUM_TILES) == counted.get_total_flops()


@torch.inference_mode()
def test_the_language_model_needs_what_torch_counts(
    model: LlavaNextForConditionalGeneration,
) -> None:
    config = model.config.text_config
    with FlopCounterMode(display=False) as counted:
        model(input_ids=torch.full((1, LENGTH), 7), logits_to_keep=1)
    upper_half = _upper_half(config, config.num_hidden_layers, LENGTH)
    assert prefill_flops(config, LENGTH) == counted.get_total_flops() - upper_half


@torch.inference_mode()
def test_layers_from_the_pruning_one_on_need_what_is_kept(
    model: LlavaNextForConditionalGeneration,
) -> None:
    config, language = model.config.text_config, model.model.language_model
    hidden = torch.zeros(1, LENGTH, config.hidden_size)
    with FlopCounterMode(display=False) as counted:
        with some_layers(language, slice(LAYER)):
            language(inputs_embeds=hidden)
        with some_layers(language, slice(LAYER, None)):
            states = language(inputs_embeds=hidden[:, :NUM_KEEP]).last_hidden_state
        model.lm_head(states[:, -1:])
    num_later = config.num_hidden_layers - LAYER
    upper_half = _upper_half(config, LAYER, LENGTH) + _upper_half(config, num_later, NUM_KEEP)
    flops = prefill_flops(config, LENGTH, layer=LAYER, num_keep=NUM_KEEP)
    assert flops == counted.get_total_flops() - upper_half


def _upper_half(config: LlamaConfig, num_layers: int, length: int) -> int:
    """Return what eager attention computes of the upper half as well, and masks."""
    return num_layers * 2 * length * length * config.head_dim * config.num_attention_heads


def test_the_peak_is_that_of_a_product() -> None:
    assert peak_flops("cpu", torch.float32, repeats=1) > 1e8
