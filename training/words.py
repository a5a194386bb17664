"""The tokenizer, the chat template and the processor of the tiny checkpoint."""

import json
import re
from itertools import product

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlavaNextImageProcessorPil, LlavaNextProcessor, PreTrainedTokenizerFast

from training.canvas import GEOMETRY
from training.glyphs import CHARACTERS, DIGITS
from training.questions import COUNTS, PARTS
from training.scene import COLORS, DIRECTIONS, SHAPES
from workers.vision.normalize import CLIP_MEAN, CLIP_STD

MAX_POSITIONS = 65_536
MOST_DIGITS = 3
"""Before the point of a time, in one token."""
IMAGE_TOKEN = "<image>"
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ 'USER: ' if message['role'] == 'user' else ' ASSISTANT:' }}"
    "{% if message['content'] is string %}"
    "{{ message['content'] if message['role'] == 'user' else ' ' + message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] if message['role'] == 'user' else ' ' + part['text'] }}"
    "{% endfor %}"
    "{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
_PIECES = r"s\] |(?<!\p{N})\p{N}{1,3}\.(?=\p{N})|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Words, signs and spaces as in GPT-2; digits one by one, as plates have them. Up to three digits
before the point of a time are one piece with it, as in Llama 3; so is the end of a timestamp."""
_SENTENCES = (
    "USER: what ASSISTANT: what", "what color is the", "what shape is the object?", "move?",
    "how many shapes are there?", "what number is shown?", "what code is shown?", "number?",
    "is the object on the left or right?", "is the object at the top or bottom?",
    "which way does the object move?", "which came first, the or the object?",
    "in which part of the clip is the object?", "what is the first number?", "last number?",
    "when does the object appear?", "when is the object last seen?", "[.s] ",
)  # fmt: skip


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE in which every word of the questions and answers is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    words = [*COLORS, *SHAPES, *DIRECTIONS, *COUNTS, *PARTS, "top", "bottom"]
    corpus = [*_SENTENCES, *(f" {word}" for word in words), *(f"{word}?" for word in SHAPES)]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=1,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>", IMAGE_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([line for line in corpus for _ in range(4)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_with_numbers(tokenizer),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=MAX_POSITIONS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
    )
    fast.add_tokens([AddedToken(IMAGE_TOKEN, special=True)], special_tokens=True)
    return fast


def _with_numbers(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer that has one token for every number of up to three digits and a point."""
    state = json.loads(tokenizer.to_str())
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    for length in range(1, MOST_DIGITS + 1):
        for digits in product(DIGITS, repeat=length):
            rest = "".join(digits[1:]) + "."
            vocabulary[digits[0] + rest] = len(vocabulary)
            merges.append([digits[0], rest])
    return Tokenizer.from_str(json.dumps(state))


def build_processor() -> LlavaNextProcessor:
    """Return the processor: the real model's, with small tiles."""
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": GEOMETRY.tile_size},
        crop_size={"height": GEOMETRY.tile_size, "width": GEOMETRY.tile_size},
        image_grid_pinpoints=[list(pinpoint) for pinpoint in GEOMETRY.pinpoints],
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    )
    return LlavaNextProcessor(
        image_processor=image_processor,
        tokenizer=build_tokenizer(),
        patch_size=GEOMETRY.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def number_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the ids of all tokens that are digits and a point."""
    is_number = re.compile(r"[0-9]+\.").fullmatch
    return sorted(number for text, number in tokenizer.get_vocab().items() if is_number(text))


def single_token(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """Return the id of ``word`` with the space before it, or of a character without one."""
    text = word if word in CHARACTERS else f" {word}"
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"not one token: {word = } {ids = }")
    return int(ids[0])
