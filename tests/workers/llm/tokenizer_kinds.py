"""Small checkpoints without weights, with tokenizers of the kinds that LLaVA-NeXT is built on."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "What color is the cat? How many people are there in the picture?",
    "USER: what is shown here ASSISTANT: a red car and two dogs on the street",
    "user assistant system the question is about a video of 12 frames at 3.5 seconds",
    "naïve café 猫が好き strasse straße ÿ the image starts and ends here",
] * 3
VICUNA = (
    "{% for message in messages %}{{ 'USER: ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ ' ' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{{ '[INST] ' }}"
    "{% for part in message['content'] %}{{ '<image>' if part.type == 'image' else part.text }}\n"
    "{% endfor %}{{ ' [/INST]' }}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{% endif %}"
)
GRANITE = (
    "{{ '<|system|>\\nA chat between a curious user and an assistant.\\n' }}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for part in message['content'] if part.type == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part.type == 'text' %}{{ '\\n' + part.text }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_OPENING = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])


def special(text: str, **flags: bool) -> AddedToken:
    return AddedToken(text, special=True, normalized=flags.pop("normalized", False), **flags)


def sentencepiece_like(*, prepend: bool, opening: bool = True, **image: bool) -> Tokenizer:
    """Return a BPE tokenizer as Llama 2, Vicuna and Mistral have: ▁ for blanks, bytes as a last
    resort; ``prepend`` for the normalizer of older files, which marks what follows a special token.
    """
    control = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=control + byte_tokens, show_progress=False
    )
    trained.train_from_iterator(CORPUS, trainer)
    content = json.loads(trained.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if prepend:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if opening:
        tokenizer.post_processor = _OPENING
    tokenizer.add_tokens([special("<image>", **image), special("<pad>")])
    return tokenizer


def byte_level(added: list[AddedToken], *, opening: str = "", composed: bool = False) -> Tokenizer:
    """Return a byte-level BPE tokenizer whose added tokens stand behind its vocabulary."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=not composed))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(added)
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    if opening:
        index = tokenizer.token_to_id(opening)
        adding = processors.TemplateProcessing(
            single=f"{opening} $A", special_tokens=[(opening, index)]
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), adding])
    return tokenizer


def unigram() -> Tokenizer:
    """Return a Unigram tokenizer, whose vocabulary is a list with the control tokens in it."""
    control = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=control, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = _OPENING
    tokenizer.add_tokens([special("<image>"), special("<pad>")])
    return tokenizer


def llama_3() -> Tokenizer:
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "<pad>"]
    added = [special(text) for text in ("<|begin_of_text|>", *headers)]
    return byte_level(added, opening="<|begin_of_text|>")


def qwen_2() -> Tokenizer:
    added = [special(text) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")]
    plain = AddedToken("<tool_call>", special=False, normalized=False)
    return byte_level([*added, plain], composed=True)


def granite() -> Tokenizer:
    return byte_level([special("<|end_of_text|>"), special("<image>")])


LLAMA_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
LLAMA_3_NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<pad>"}
QWEN_NAMES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
GRANITE_NAMES = dict.fromkeys(["bos_token", "eos_token", "pad_token"], "<|end_of_text|>")
LLAMA = {"tokenizer_class": "LlamaTokenizer", "legacy": True, **LLAMA_NAMES}

# name -> tokenizer, chat template, tokenizer_config.json
KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "vicuna": (lambda: sentencepiece_like(prepend=True), VICUNA, LLAMA | {"add_bos_token": True}),
    "mistral": (lambda: sentencepiece_like(prepend=True), MISTRAL, LLAMA),
    "metaspace": (lambda: sentencepiece_like(prepend=False), VICUNA, LLAMA),
    "no opening": (lambda: sentencepiece_like(prepend=False, opening=False), VICUNA, LLAMA),
    "greedy image": (
        lambda: sentencepiece_like(prepend=True, lstrip=True, rstrip=True),
        MISTRAL,
        LLAMA,
    ),
    "single word": (
        lambda: sentencepiece_like(prepend=True, single_word=True),
        VICUNA,
        LLAMA,
    ),
    "normalized": (
        lambda: byte_level(
            [special("<s>", normalized=True), special("<image>", normalized=True)], composed=True
        ),
        MISTRAL,
        {"bos_token": "<s>"},
    ),
    "llama 3": (llama_3, LLAMA_3, {"tokenizer_class": "PreTrainedTokenizerFast", **LLAMA_3_NAMES}),
    "qwen 2": (qwen_2, CHATML, {"tokenizer_class": "Qwen2Tokenizer", **QWEN_NAMES}),
    "granite": (granite, GRANITE, {"tokenizer_class": "GPT2Tokenizer", **GRANITE_NAMES}),
    "yi": (
        lambda: sentencepiece_like(prepend=False, opening=False),
        CHATML,
        LLAMA | {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]},
    ),
    "unigram": (unigram, MISTRAL, {"tokenizer_class": "T5Tokenizer", **LLAMA_NAMES}),
}


def write_kind(
    source: Path, folder: Path, kind: str, *, files: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint without weights.

    Args:
        source: a whole checkpoint, whose configuration of the model and of images is taken.
        folder: where to; must not exist.
        kind: of the tokenizer, a key of ``KINDS``.
        files: name -> content of more JSON files, or of other content for those written anyhow.
    """
    make, template, config = KINDS[kind]
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
    make().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, content in ({"tokenizer_config.json": config} | dict(files or {})).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
