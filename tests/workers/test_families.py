"""Published configurations with random weights give what transformers gives, frame to answer."""

from collections.abc import Callable
from pathlib import Path

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

SIZES = {"wide": (180, 320), "tall": (400, 90)}
QUESTIONS = ["What color is the cat?", "How many people are there?"]


@pytest.fixture(scope="module", params=MODEL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("kind"), MODEL_KINDS[kind])


@pytest.fixture(scope="module")
def frames(kind: str) -> list[UInt8Array]:
    """Two frames; those of a video are of one size."""
    is_video = "video" in MODEL_KINDS[kind].model_type
    sizes = [SIZES["wide"], SIZES["wide" if is_video else "tall"]]
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

    def answer(self, frames: list[UInt8Array], ids: list[int]) -> list[int]:
        inputs = {"input_ids": torch.tensor([ids])} | self.pixels(frames)
        with torch.inference_mode():
            whole = self._model.generate(**inputs, max_new_tokens=24, do_sample=False)
        tokens: list[int] = whole[0, len(ids) :].tolist()
        return tokens


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.mark.parametrize("rename", [str, old_name, new_name])
def test_features_ids_and_answers_are_those_of_transformers(
    folder: Path,
    frames: list[UInt8Array],
    reference: Reference,
    tmp_path: Path,
    rename: Callable[[str], str],
) -> None:
    renamed = rewrite_checkpoint(folder, tmp_path / "renamed", rename=rename, num_shards=2)
    visual = show_frames(renamed, frames)
    expected = reference.features(frames)
    assert visual.frame_lengths.tolist() == list(map(len, expected))
    torch.testing.assert_close(
        unpack(visual.features, "float32"), torch.cat(expected), atol=2e-4, rtol=2e-4
    )
    asker = Asker(renamed)
    for question in QUESTIONS:
        ids = reference.ids(list(map(len, expected)), question)
        prompt = asker.prompt(visual, question)
        placeholders = [[asker.template._image_token_id] * len(each) for each in expected]
        parts = zip(map(list, prompt.frame_segments), placeholders, strict=True)
        assert sum((before + shown for before, shown in parts), []) + [*prompt.question] == ids
        assert asker.ask(visual, question) == reference.answer(frames, ids)
