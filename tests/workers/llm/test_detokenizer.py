from pathlib import Path

import pytest

from tests.workers.llm.tokenizer_kinds import KINDS, write_kind
from workers.llm.detokenizer import TextStream
from workers.llm.tokenizer import read_tokenizer

TEXTS = ["What color is the cat?", "naïve 猫が好き 🙂 e\u0301", " two  blanks\n\nand lines ", "猫"]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_make_up_the_text(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    tokenizer = read_tokenizer(str(write_kind(checkpoint, tmp_path / "kind", kind))).load()
    image = tokenizer.encode("<image>", add_special_tokens=False).ids[-1]
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        for tokens in (ids, [image, *ids], [*ids, image], [*ids[:2], image, *ids[2:]]):
            pieces: list[str] = []
            stream = TextStream(tokenizer, pieces.append)
            for token in tokens:
                stream.push(token)
            stream.finish()
            assert stream.text == "".join(pieces) == tokenizer.decode(tokens)
            assert all(pieces)
            assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_letters_that_stay_incomplete_come_last(checkpoint: Path) -> None:
    tokenizer = read_tokenizer(str(checkpoint)).load()
    ids = tokenizer.encode("cat 猫", add_special_tokens=False).ids[:-1]
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for token in ids:
        stream.push(token)
    assert "\N{REPLACEMENT CHARACTER}" not in stream.text
    stream.finish()
    assert pieces[-1].endswith("\N{REPLACEMENT CHARACTER}")
    assert stream.text == tokenizer.decode(ids)
