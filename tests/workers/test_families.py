"""Published configurations with random weights give what transformers gives, frame to answer."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessor,
)
from transformers.utils.chat_template_utils import render_jinja_template

from tests.checkpoints import new_name, old_name, rewrite_checkpoint
from tests.model_kinds import MODEL_KINDS, write_model
from tests.workers.llm.visual import Asker, show_frames
from tests.workers.vision.pictures import draw_picture
from workers.arrays import UInt8Array, unpack
from workers.errors import ModelError
from workers.llm.answer import SamplingOptions
from workers.llm.decoder import Decoder
from workers.llm.prompt import Prompt
from workers.llm.rows import Row
from workers.vision.weights import load_vision
from workers.visual import VisualSequence

SIZES = {"wide": (180, 320), "tall": (400, 90)}
QUESTION = "What color is the cat?"
SHORT = SamplingOptions(max_new_tokens=8)


@pytest.fixture(scope="module", params=MODEL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("kind"), MODEL_KINDS[kind])


@pytest.fixture(scope="module")
def frames(kind: str) -> list[UInt8Array]:
    """One frame where it has many tiles, else two, which in a video are of one size."""
    names = {"llava": ["wide", "tall"], "llava_next": ["wide"], "llava_next_video": ["wide"] * 2}
    sizes = [SIZES[name] for name in names[MODEL_KINDS[kind].model_type]]
    return [draw_picture(*size, seed=seed) for seed, size in enumerate(sizes)]


class Reference:
    """transformers' own model on the pixels of its own processor."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self._is_video = "video" in self._model.config.model_type
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._template = (folder / "chat_template.jinja").read_text()
        # That of videos needs torchvision, and does the same to each frame.
        processor = CLIPImageProcessor if self._is_video else AutoImageProcessor
        self._processor = processor.from_pretrained(folder)

    def pixels(self, frames: list[UInt8Array]) -> dict[str, torch.Tensor]:
        pixels = dict(self._processor(images=frames, return_tensors="pt"))
        return {"pixel_values_videos": pixels["pixel_values"][None]} if self._is_video else pixels

    def features(self, frames: list[UInt8Array]) -> list[torch.Tensor]:
        """(tokens, hidden) of each frame."""
        get = self._model.get_video_features if self._is_video else self._model.get_image_features
        with torch.inference_mode():
            features = get(**self.pixels(frames), return_dict=True).pooler_output
        return list(features[0].chunk(len(frames)) if self._is_video else features)

    def ids(self, lengths: list[int], question: str) -> list[int]:
        """Token ids with a placeholder for each visual token."""
        name = "video" if self._is_video else "image"
        content = [{"type": name}] * (1 if self._is_video else len(lengths))
        (text,), _ = render_jinja_template(
            [[{"role": "user", "content": [*content, {"type": "text", "text": question}]}]],
            chat_template=self._template,
            add_generation_prompt=True,
            **self._tokenizer.special_tokens_map,
        )
        for length in [sum(lengths)] if self._is_video else lengths:
            text = text.replace(f"<{name}>", "\0" * length, 1)
        ids: list[int] = self._tokenizer(text.replace("\0", f"<{name}>"))["input_ids"]
        return ids

    def answer(self, frames: list[UInt8Array], ids: list[int]) -> tuple[torch.Tensor, list[int]]:
        """The logits of the first token, and eight tokens."""
        inputs = {"input_ids": torch.tensor([ids])} | self.pixels(frames)
        options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False}
        with torch.inference_mode():
            answer = self._model.generate(**inputs, max_new_tokens=8, **options)
        # Granite's language model divides by this; LLaVA-NeXT around its layers does not.
        scaling = getattr(self._model.config.text_config, "logits_scaling", 1)
        return answer.logits[0][0] / scaling, answer.sequences[0, len(ids) :].tolist()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


def test_features_ids_and_answers_are_those_of_transformers(
    folder: Path, frames: list[UInt8Array], reference: Reference
) -> None:
    visual, expected = show_frames(folder, frames), reference.features(frames)
    lengths = list(map(len, expected))
    assert visual.frame_lengths.tolist() == lengths
    torch.testing.assert_close(
        unpack(visual.features, "float32"), torch.cat(expected), atol=1e-4, rtol=1e-4
    )
    asker = Asker(folder)
    ids, prompt = reference.ids(lengths, QUESTION), asker.prompt(visual, QUESTION)
    placeholders = [[asker.template._image_token_id] * length for length in lengths]
    shown = zip(prompt.frame_segments, placeholders, strict=True)
    assert [*chain.from_iterable(chain.from_iterable(shown)), *prompt.question] == ids
    logits, tokens = reference.answer(frames, ids)
    torch.testing.assert_close(first_logits(asker, visual, prompt), logits, atol=1e-3, rtol=1e-3)
    assert asker.ask(visual, QUESTION, sampling=SHORT) == tokens


def first_logits(asker: Asker, visual: VisualSequence, prompt: Prompt) -> torch.Tensor:
    decoder = asker.model._decoder
    prefix = decoder.prefill(visual, prompt)
    return decoder.read(prefix, [Row(slot=0)], [prompt.question])[0]


@pytest.mark.parametrize("rename", [old_name, new_name])
def test_names_of_transformers_4_and_5(
    folder: Path, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    renamed = rewrite_checkpoint(folder, tmp_path / "renamed", rename=rename, num_shards=2)
    for expected, actual in zip(weights(folder), weights(renamed), strict=True):
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[name], actual[name]) for name in expected)


def weights(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Weights of the vision tower, the projector and the language model."""
    vision = load_vision(str(folder), torch.float32)
    decoder = Decoder(str(folder), device="cpu", dtype=torch.float32)
    modules = vision.tower, vision.projector, decoder._model
    return [{"newline": vision.newline}, *(dict(each.state_dict()) for each in modules)]


def test_a_language_model_without_attention_in_every_layer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.model_kinds.spread_weights", lambda model: None)
    text = {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]}
    kind = replace(MODEL_KINDS["llava-hf/llava-1.5-7b-hf"], text=text)
    folder = write_model(tmp_path / "hybrid", kind)
    with pytest.raises(ModelError, match=r"a Lfm2ForCausalLM cannot read clips: .* attention"):
        Decoder(str(folder), device="cpu", dtype=torch.float32)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ({"model_type": "none"}, "cannot read config"),
        ({"model_type": "llama", "hidden_size": 10}, "cannot read config"),
        ({"model_type": "clip_vision_model"}, "is no language model"),
    ],
)
def test_what_is_no_language_model_is_one_line(
    checkpoint: Path, tmp_path: Path, text: dict[str, Any], reason: str
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "broken", config={"text_config": text})
    with pytest.raises(ModelError, match=rf"^[^\n]*{reason}[^\n]*$"):
        Decoder(str(folder), device="cpu", dtype=torch.float32)
