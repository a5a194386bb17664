import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, LlavaNextForConditionalGeneration

from streaming.bench.flops import peak_flops, prefill_flops, vision_flops

NUM_TILES, LENGTH = 3, 40


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
    # eager attention computes the upper half as well, and masks it
    queries = config.head_dim * config.num_attention_heads
    upper_half = config.num_hidden_layers * 2 * LENGTH * LENGTH * queries
    assert prefill_flops(config, LENGTH) == counted.get_total_flops() - upper_half


def test_the_peak_is_that_of_a_product() -> None:
    assert peak_flops("cpu", torch.float32, repeats=1) > 1e8
