"""The ids are those of transformers' processor, on every kind of tokenizer."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from transformers import AutoProcessor, GraniteConfig, LlamaConfig, MistralConfig, Qwen2Config

from tests.workers.llm.tokenizer_kinds import KINDS, LLAMA, write_kind
from workers.checkpoint import EMBEDDED, locate
from workers.errors import ModelError
from workers.llm.chat_template import ChatTemplate
from workers.llm.dialogue import Dialogue, Turn
from workers.llm.prompt import Prompt, timestamp_text

QUESTIONS = [
    "What color is the cat?",
    "Why?",
    "  spaces kept  ",
    "line\nbreak\n\n",
    "\ta tab",
    "naïve 猫 cafe\u0301 e\u0301 🙂",
    "a < b, [x], <image and s>",
    "",
]
TIMES = [0.0, 12.34, 3600]


def ids_of_the_processor(
    processor: Any, question: str, timestamps: list[str], earlier: tuple[Turn, ...] = ()
) -> list[int]:
    """Render and tokenize as transformers does; one placeholder a frame, in the first question."""
    said = [*earlier, Turn(role="user", text=question)]
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in said
    ]
    first = next(message for message in messages if message["role"] == "user")
    first["content"] = [{"type": "image"}] * len(timestamps) + first["content"]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
    image = processor.image_token
    pieces = rendered.split(image)
    frames = zip(pieces, timestamps, strict=False)
    text = "".join(piece + stamp + image for piece, stamp in frames) + pieces[-1]
    opening = processor.tokenizer.bos_token
    has_start = opening is not None and text.startswith(opening)
    ids: list[int] = processor.tokenizer(text, add_special_tokens=not has_start)["input_ids"]
    return ids


def join(prompt: Prompt, image_token_id: int) -> list[int]:
    segments = [[*segment, image_token_id] for segment in prompt.frame_segments]
    return [*chain.from_iterable(segments), *prompt.question]


def assert_same_ids(folder: Path) -> None:
    processor, template = AutoProcessor.from_pretrained(folder), ChatTemplate.load(str(folder))
    for question in QUESTIONS:
        for stamps in ([""], [""] * 3, [timestamp_text(each) for each in TIMES]):
            prompt = template.build(question, stamps)
            assert len(prompt.frame_segments) == len(stamps)
            ids = join(prompt, processor.image_token_id)
            assert ids == ids_of_the_processor(processor, question, stamps), (question, stamps)
            assert prompt.num_text_tokens == len(ids) - len(stamps)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_processor(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    assert_same_ids(write_kind(checkpoint, tmp_path / "kind", kind))


def test_ids_are_those_of_the_processor_on_the_embedded_checkpoint() -> None:
    assert_same_ids(Path(locate(EMBEDDED)))


CONVERSATIONS = [
    ("Why?", (Turn(role="user", text="  What is it? "), Turn(role="assistant", text="A cat."))),
    ("And now?", (Turn(role="system", text="Be brief."), Turn(role="user", text="a < b, [x]"),
                  Turn(role="assistant", text="naïve 猫\n"))),
    ("What is it?", (Turn(role="user", text="What is it?"), Turn(role="assistant", text="What"),
                     Turn(role="user", text="What"), Turn(role="assistant", text="is it?"))),
]  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, EMBEDDED])
def test_a_conversation_is_that_of_the_processor(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    folder = Path(locate(EMBEDDED))
    folder = folder if kind == EMBEDDED else write_kind(checkpoint, tmp_path / "kind", kind)
    processor, template = AutoProcessor.from_pretrained(folder), ChatTemplate.load(str(folder))
    for question, earlier in CONVERSATIONS:
        for stamps in ([""], [timestamp_text(each) for each in TIMES]):
            prompt = template.build(Dialogue(question, earlier), stamps)
            expected = ids_of_the_processor(processor, question, stamps, earlier)
            assert join(prompt, processor.image_token_id) == expected


def test_questions_of_a_conversation_go_on_from_one_prefix() -> None:
    template = ChatTemplate.load(locate(EMBEDDED))
    first = template.build("What is it?", ["", ""])
    said = (Turn(role="user", text="What is it?"), Turn(role="assistant", text="A cat."))
    later = template.build(Dialogue("Why?", said), ["", ""])
    assert later.frame_segments == first.frame_segments
    assert later.question[: len(first.question)] == first.question


def test_what_was_said_before_is_text_too() -> None:
    template = ChatTemplate.load(locate(EMBEDDED))
    for role in ("user", "assistant"):
        said = (Turn(role="user", text="What?"), Turn(role="assistant", text="A cat."))
        spelled = [
            replace(turn, text="</s> <image>") if turn.role == role else turn for turn in said
        ]
        prompt = template.build(Dialogue("Why?", spelled), ["", ""])
        plain = template.build(Dialogue("Why?", said), ["", ""])
        assert len(prompt.frame_segments) == 2
        ends = (2,)  # </s>, which ends the answer before
        assert prompt.question.count(*ends) == plain.question.count(*ends) == 1


STORED = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
IMAGE = {"content": "<picture>", "special": True, **STORED}
BARE = {key: LLAMA[key] for key in ("tokenizer_class", "legacy")}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": LLAMA | {"image_token": "<picture>"}},
        {"tokenizer_config.json": LLAMA | {"extra_special_tokens": {"image_token": "<picture>"}}},
        {
            "tokenizer_config.json": LLAMA
            | {"image_token": "<picture>", "added_tokens_decoder": {"700": IMAGE}}
        },
        {
            "tokenizer_config.json": BARE | {"image_token": "<picture>"},
            "special_tokens_map.json": {
                "bos_token": {"content": "<s>", **STORED},
                "additional_special_tokens": ["<one>", "<two>"],
            },
            "added_tokens.json": {"<two>": 702, "<three>": 701},
        },
        {
            "tokenizer_config.json": BARE
            | {
                "bos_token": {"__type": "AddedToken", "special": True, "content": "<s>", **STORED},
                "additional_special_tokens": ["<picture>"],
                "image_token": "<picture>",
            }
        },
    ],
    ids=["named", "named among others", "listed", "older files", "typed"],
)
def test_tokens_of_other_files_are_added(
    checkpoint: Path, tmp_path: Path, files: dict[str, Any]
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", "vicuna", files=files)
    template = (folder / "chat_template.jinja").read_text().replace("<image>", "<picture>")
    (folder / "chat_template.jinja").write_text(template + "{{ '<two><three>' }}")
    assert_same_ids(folder)


def test_a_tokenizer_that_was_never_converted_is_left_to_transformers(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = LLAMA | {"add_bos_token": True, "image_token": "<image>"}
    files = {"tokenizer_config.json": config}
    folder = write_kind(checkpoint, tmp_path / "kind", "vicuna", files=files)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json and no tokenizer\.model$"):
        ChatTemplate.load(str(folder))
    (tmp_path / "text").write_text("what color is the cat\nhow many people are there\n" * 9)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=290,
        byte_fallback=True,
        minloglevel=9,
    )
    assert_same_ids(folder)


def test_placeholders_are_where_the_processor_puts_the_pictures(checkpoint: Path) -> None:
    processor, template = (
        AutoProcessor.from_pretrained(checkpoint),
        ChatTemplate.load(str(checkpoint)),
    )
    content = [{"type": "image"}] * 2 + [{"type": "text", "text": "Why?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    pictures = list(np.zeros((2, 72, 128, 3), np.uint8))
    ids = processor(images=pictures, text=text, add_special_tokens=False)["input_ids"][0]
    placeholder = processor.image_token_id
    kept = [True, *(pair != (placeholder,) * 2 for pair in pairwise(ids))]
    once = [token for token, keep in zip(ids, kept, strict=True) if keep]
    assert join(template.build("Why?", ["", ""]), placeholder) == once


def test_a_timestamp_stands_right_before_its_frame(checkpoint: Path) -> None:
    stamps = [timestamp_text(each) for each in TIMES]
    assert stamps == ["[0.0s] ", "[12.3s] ", "[3600.0s] "]
    template = ChatTemplate.load(str(checkpoint))
    marked, plain = template.build("Why?", stamps), template.build("Why?", [""] * 3)
    decode = AutoProcessor.from_pretrained(checkpoint).tokenizer.decode
    for with_stamp, without, stamp in zip(
        marked.frame_segments, plain.frame_segments, stamps, strict=True
    ):
        assert decode(with_stamp) == decode(without) + stamp
    assert marked.question == plain.question


def test_neither_torch_nor_transformers_is_needed() -> None:
    code = (
        "import sys, workers.llm.context; from workers.llm.chat_template import ChatTemplate\n"
        "ChatTemplate.load('workers/embedded').build('Why?', ['[0.0s] '])\n"
        "print(sorted({'torch', 'transformers', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_context_is_that_of_the_language_model(checkpoint: Path) -> None:
    assert ChatTemplate.load(str(checkpoint)).context_length == 32_768


@pytest.mark.parametrize("config_class", [GraniteConfig, LlamaConfig, MistralConfig, Qwen2Config])
def test_a_context_that_is_not_stated_is_that_of_transformers(
    checkpoint: Path, tmp_path: Path, config_class: Any
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", "vicuna")
    text = {"model_type": config_class.model_type}
    config = {"model_type": "llava_next", "text_config": text}
    (folder / "config.json").write_text(json.dumps(config))
    expected = config_class().max_position_embeddings
    assert ChatTemplate.load(str(folder)).context_length == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": {}}, r"tokenizer\.json: it describes no model$"),
        ({"tokenizer.json": {"model": {"type": "none"}}}, r"tokenizer\.json: [^\n]+$"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"3": 5}}}, "tokenizer_config"),
        (
            {"config.json": {"model_type": "llava", "text_config": {"model_type": "gpt2"}}},
            "no max_position_embeddings",
        ),
        ({"processor_config.json": {"image_token": "<img>"}}, "has no image token '<img>'$"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_one_line(
    checkpoint: Path, tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", "vicuna", files=files)
    with pytest.raises(ModelError, match=message) as raised:
        ChatTemplate.load(str(folder))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_without_chat_template_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ModelError, match=r"no chat template.* to chat_template\.jinja"):
        ChatTemplate.load(str(folder))
