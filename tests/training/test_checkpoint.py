import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from training.export import write_checkpoint
from training.make_set import draw_set
from training.measure import VIEWS, Answerer, guesses, measure, table
from training.model import build_model
from training.words import build_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    processor = build_processor()
    model = build_model(
        processor.tokenizer, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2
    )
    path: Path = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(model, processor, path)
    return path


def test_weights_are_stored_small_and_loaded_in_full(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model = LlavaNextForConditionalGeneration.from_pretrained(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    torch.manual_seed(0)
    same = build_model(
        build_processor().tokenizer, hidden_size=64, vision_size=32, num_layers=2,
        num_vision_layers=2,
    ).state_dict()  # fmt: skip
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, same[name], atol=1e-4, rtol=1e-3)


def test_the_processor_comes_back_with_template_and_tiles(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "why?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    assert prompt == "<s>USER: <image>\n<image>\nwhy? ASSISTANT:"
    picture = np.zeros((126, 224, 3), dtype=np.uint8)
    inputs = processor(images=[picture, picture], text=prompt, return_tensors="pt")
    assert inputs["pixel_values"].shape == (2, 5, 3, 56, 56)
    assert inputs["input_ids"][0].tolist().count(processor.image_token_id) == 2 * 234


def test_answering_a_set_counts_every_question_once(folder: Path, tmp_path: Path) -> None:
    questions = draw_set(tmp_path, 1, 1, num_frames=(4,), num_questions=1)
    answerer = Answerer(folder)
    asked = len(questions.read_text().splitlines())
    for view in VIEWS:
        tally = measure(answerer, questions, view, timestamps=view == "full")
        assert sum(count for _, count in tally.values()) == asked
        assert "| all |" in table(tally, guesses(questions))


def test_a_guess_is_the_share_of_the_commonest_answer(tmp_path: Path) -> None:
    lines = [("color", "red"), ("color", "red"), ("color", "blue"), ("order", "red")]
    text = "".join(json.dumps({"type": t, "answers": [a]}) + "\n" for t, a in lines)
    (tmp_path / "questions.jsonl").write_text(text)
    assert guesses(tmp_path / "questions.jsonl") == {"color": pytest.approx(2 / 3), "order": 0.5}


def test_configuration_holds_no_absolute_path(folder: Path) -> None:
    for path in folder.glob("*.json"):
        assert str(folder) not in json.dumps(json.loads(path.read_text()))
