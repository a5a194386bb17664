import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from tests.checkpoints import Tensors, rewrite_checkpoint
from tests.pruner import golden
from tests.workers.llm.fastv_reference import slow_answer
from tests.workers.llm.visual import (
    QUESTIONS,
    Asker,
    identified,
    load_model,
    random_frames,
    show_frames,
)
from workers.llm.answer import SamplingOptions
from workers.llm.fastv import LayerPruning
from workers.llm.rows import ATTENTION
from workers.visual import VisualSequence

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mistral_window": {"sliding_window": 40},
    "qwen2": {},
    "granite": {
        "attention_multiplier": 0.3,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
    },
}


def add_biases(tensors: Tensors) -> Tensors:
    """Give queries, keys and values the biases that Qwen2 has and the others leave unread."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: weight for name, weight in tensors.items() if "language" in name and "_proj" in name
    }
    return tensors | {
        name.replace("weight", "bias"): torch.randn(len(weight), generator=generator)
        for name, weight in weights.items()
        if any(part in name for part in ("q_proj", "k_proj", "v_proj"))
    }


def make_model(checkpoint: Path, folder: Path, kind: str) -> Asker:
    text = json.loads((checkpoint / "config.json").read_text())["text_config"]
    text |= {"model_type": kind.partition("_")[0]} | KINDS[kind]
    changes: Callable[[Tensors], Tensors] = {"qwen2": add_biases}.get(kind, dict)
    rewrite_checkpoint(checkpoint, folder, config={"text_config": text}, changes=changes)
    return Asker(folder)


def assert_untouched(net: Any) -> None:
    for layer in net.base_model.layers:
        assert layer.self_attn.config is net.config
        assert not layer._forward_pre_hooks
        assert not layer.self_attn._forward_pre_hooks
    assert net.config._attn_implementation in {"sdpa", ATTENTION}


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


@pytest.mark.parametrize("case", golden.load_all("fastv_e2e"), ids=repr)
def test_a_llama_gives_what_was_published(case: golden.Case) -> None:
    sizes = {name: case.params[name] for name in case.params if name in LlamaConfig().to_dict()}
    rope = {"rope_type": "default", "rope_theta": case.params["rope_theta"]}
    net = LlamaModel(LlamaConfig(vocab_size=8, rope_parameters=rope, **sizes)).eval()
    weights = {name[2:]: case[name] for name in case.arrays if name.startswith("w.")}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert {*missing, *unexpected} <= {"embed_tokens.weight"}
    places = torch.arange(case.info["seq_len"])
    start, length = case.params["start"], case.params["length"]
    pruning = LayerPruning(
        net,
        layer=case.params["K"],
        is_visual=(places >= start) & (places < start + length),
        num_keep=length - (case.info["seq_len"] - len(case["keep"])),
    )
    cache = DynamicCache()
    with torch.inference_mode(), pruning.prefill():
        prompt = net(inputs_embeds=case["inputs_embeds"], past_key_values=cache)
    assert torch.equal(pruning.keep_indices, case["keep"])
    assert [layer.get_seq_length() for layer in cache.layers] == case["kv_len"].tolist()
    torch.testing.assert_close(
        prompt.last_hidden_state, case["last_hidden_state"], atol=1e-4, rtol=0
    )
    row = pruning._last_row.mean(dim=0)[start : start + length]
    torch.testing.assert_close(row, case["attn_score"], atol=1e-6, rtol=1e-4)
    with torch.inference_mode(), pruning.generation():
        step = net(
            inputs_embeds=case["decode_embed"],
            position_ids=case["decode_position"],
            past_key_values=cache,
        )
    torch.testing.assert_close(step.last_hidden_state, case["decode_hidden"], atol=1e-4, rtol=0)
    assert_untouched(net)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_plain_loop_over_the_layers(
    checkpoint: Path, tmp_path: Path, whole: VisualSequence, kind: str, layer: int
) -> None:
    asker = make_model(checkpoint, tmp_path / kind, kind)
    clip = identified(whole, fastv_keep=15, fastv_layer=layer)
    answers = []
    for question in QUESTIONS:
        prompt = asker.prompt(clip, question)
        with torch.inference_mode():
            slow = slow_answer(asker.model._decoder._model, clip, prompt, 12)
        answer = asker.whole(clip, question, SamplingOptions(max_new_tokens=12))
        assert list(answer.token_ids) == slow.token_ids
        assert answer.keep_indices is not None
        length = int(clip.frame_lengths[0])
        frames, places = divmod(np.array(slow.kept_visual), length)
        assert [each.tolist() for each in answer.keep_indices] == [
            places[frames == number].tolist() for number in range(3)
        ]
        assert len(slow.kept_visual) == 15 < slow.num_visual
        answers.append((slow.token_ids, slow.kept_visual))
    assert answers[0] != answers[1]


def test_keeping_all_changes_no_logit(checkpoint: Path) -> None:
    net = load_model(checkpoint)._decoder._model
    embeds = torch.randn(1, 50, 64, generator=torch.Generator().manual_seed(0))
    is_visual = torch.arange(50) % 7 > 1
    pruning = LayerPruning(net, layer=1, is_visual=is_visual, num_keep=50)
    with torch.inference_mode():
        plain = net(inputs_embeds=embeds).logits
        with pruning.prefill():
            same = net(inputs_embeds=embeds, past_key_values=DynamicCache()).logits
    assert torch.equal(same, plain)
