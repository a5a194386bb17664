import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pruner.fastv import fastv
from tests.checkpoints import Tensors, rewrite_checkpoint
from tests.pruner import golden
from tests.workers.llm.fastv_reference import slow_answer
from tests.workers.llm.visual import (
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.arrays import pack
from workers.llm.answer import SamplingOptions
from workers.llm.decoder import Decoder
from workers.llm.prompt import Prompt
from workers.llm.row_attention import ATTENTION
from workers.llm.rows import Row
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
    assert len(net.base_model.layers) == net.config.num_hidden_layers
    assert not isinstance(net.base_model.norm, torch.nn.Identity)
    assert net.config._attn_implementation == ATTENTION


@contextmanager
def key_lengths(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note how many keys each layer attends to."""
    lengths: list[int] = []

    def attend(module: Any, query: Any, key: Any, *args: Any, **options: Any) -> Any:
        lengths.append(key.shape[2])
        return sdpa_attention_forward(module, query, key, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("workers.llm.row_attention.sdpa_attention_forward", attend)
        yield lengths


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


def load_published(case: golden.Case) -> LlamaForCausalLM:
    """The model of a case; it says its last hidden states, and its text tokens are 0, 1, 2, ..."""
    sizes = {name: case.params[name] for name in case.params if name in LlamaConfig().to_dict()}
    rope = {"rope_type": "default", "rope_theta": case.params["rope_theta"]}
    config = LlamaConfig(vocab_size=sizes["hidden_size"], rope_parameters=rope, **sizes)
    net = LlamaForCausalLM(config).eval()
    weights = {f"model.{name[2:]}": case[name] for name in case.arrays if name.startswith("w.")}
    text = torch.cat([case["inputs_embeds"][0, ~is_visual(case)], case["decode_embed"][0]])
    table = torch.zeros(config.vocab_size, config.hidden_size)
    table[: len(text)] = text
    weights |= {"model.embed_tokens.weight": table, "lm_head.weight": torch.eye(len(table))}
    net.load_state_dict(weights)
    return net


def is_visual(case: golden.Case) -> torch.Tensor:
    places = torch.arange(case.info["seq_len"])
    start = case.params["start"]
    return (places >= start) & (places < start + case.params["length"])


@pytest.mark.parametrize("case", golden.load_all("fastv_e2e"), ids=repr)
def test_a_llama_gives_what_was_published(
    case: golden.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended: list[torch.Tensor] = []

    def choose(attention: torch.Tensor, **options: Any) -> torch.Tensor:
        attended.append(attention.mean(dim=0))
        return fastv(attention, **options)

    monkeypatch.setattr("workers.llm.layer_pruning.fastv", choose)
    start, length = case.params["start"], case.params["length"]
    num_text, behind = case.info["seq_len"] - length, start + length
    visual = identified(
        VisualSequence(
            visual_id="",
            features=pack(case["inputs_embeds"][0, start:behind]),
            dtype="float32",
            counts=np.array([length]),
            keep_indices=np.arange(length),
            frame_indices=np.array([0]),
            frame_lengths=np.array([length]),
            gaps=np.array([0]),
            num_timestamp_tokens=np.array([0]),
            prune_layer=case.params["K"],
            num_keep=len(case["keep"]) - num_text,
        )
    )
    prompt = Prompt(frame_segments=(tuple(range(start)),), question=tuple(range(start, num_text)))
    net = load_published(case)
    decoder = Decoder(net, device="cpu", dtype=torch.float32)
    prefix, row = decoder.prefill(visual, prompt), Row(slot=0)
    with key_lengths(monkeypatch) as lengths:
        said = decoder.read(prefix, [row], [prompt.question])
    assert lengths == case["kv_len"].tolist()
    assert row.kept is not None
    assert torch.equal(row.kept, case["keep"][case["keep"] < behind])
    torch.testing.assert_close(said, case["last_hidden_state"][:, -1], atol=1e-4, rtol=0)
    torch.testing.assert_close(attended[0][start:behind], case["attn_score"], atol=1e-6, rtol=1e-4)
    step = decoder.read(prefix, [row], [(num_text,)])
    torch.testing.assert_close(step, case["decode_hidden"][0], atol=1e-4, rtol=0)
    assert_untouched(net)


@pytest.mark.parametrize("reserve", [None, 0.4])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_plain_loop_over_the_layers(
    checkpoint: Path,
    tmp_path: Path,
    whole: VisualSequence,
    kind: str,
    layer: int,
    reserve: float | None,
) -> None:
    asker = make_model(checkpoint, tmp_path / kind, kind)
    clip = identified(whole, prune_layer=layer, num_keep=15)
    if reserve is not None:
        priority = np.random.default_rng(0).permutation(len(whole.features))
        seen = np.array([0, 2, 9])  # the others could not be decoded
        clip = identified(clip, priority=priority, reserve=reserve, frame_indices=seen)
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
    # Granite's first layer attends all but evenly: both questions choose the same of the clip
    assert answers[0] != answers[1] or (kind, layer) == ("granite", 1)


def test_keeping_all_changes_no_logit(checkpoint: Path, whole: VisualSequence) -> None:
    asker = Asker(checkpoint)
    decoder, prompt = asker.model._decoder, asker.prompt(whole, QUESTIONS[0])
    every = identified(whole, prune_layer=1, num_keep=len(whole.features))
    logits = [
        decoder.read(decoder.prefill(clip, prompt), [Row(slot=0)], [prompt.question])
        for clip in (whole, every)
    ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=0)
