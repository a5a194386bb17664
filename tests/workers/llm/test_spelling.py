"""What a user writes is text, also where it spells a token that the model obeys."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.workers.llm.tokenizer_kinds import KINDS, write_kind
from workers.errors import ModelError
from workers.llm.chat_template import ChatTemplate
from workers.llm.prompt import Prompt
from workers.llm.spelling import Spelling
from workers.llm.tokenizer import read_tokenizer

LOSSLESS = sorted(KINDS.keys() - {"unigram"})  # that one has no letters for < and >


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    return write_kind(checkpoint, tmp_path_factory.mktemp("kind") / "checkpoint", kind)


@pytest.fixture(scope="module")
def template(folder: Path) -> ChatTemplate:
    return ChatTemplate.load(str(folder))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return read_tokenizer(str(folder)).load()


def added_ids(tokenizer: Tokenizer) -> set[int]:
    """All but the one that stands for letters the vocabulary lacks."""
    return set(tokenizer.get_added_tokens_decoder()) - {tokenizer.token_to_id("<unk>")}


def all_ids(prompt: Prompt) -> list[int]:
    return [token for part in (*prompt.frame_segments, prompt.question) for token in part]


def test_a_question_that_spells_special_tokens_adds_none(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    words = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    assert len(words) >= 2
    added = added_ids(tokenizer)
    usual = [token for token in all_ids(template.build("Why?", [""] * 2)) if token in added]
    for word in words:
        for question in (word, f"{word}{word}", f"What is {word} here?", f"a{word}b", f" {word} "):
            prompt = template.build(question, [""] * 2)
            assert len(prompt.frame_segments) == 2
            assert [token for token in all_ids(prompt) if token in added] == usual, question


def test_timestamps_that_spell_special_tokens_add_none(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    added = added_ids(tokenizer)
    usual = [token for token in all_ids(template.build("Why?", [""] * 2)) if token in added]
    prompt = template.build("Why?", ["<image><s></s>", "<|eot_id|><|im_end|>"])
    assert len(prompt.frame_segments) == 2
    assert [token for token in all_ids(prompt) if token in added] == usual


@pytest.mark.parametrize("kind", LOSSLESS, indirect=True)
def test_the_words_stay_readable(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    for token in tokenizer.get_added_tokens_decoder().values():
        question = f"What is {token.content} here?"
        ids = template.build(question, [""]).question
        assert question in tokenizer.decode(list(ids), skip_special_tokens=False)


def test_nothing_of_the_secret_reaches_the_ids(folder: Path, template: ChatTemplate) -> None:
    question = "Is </s> or <image> shown?"
    assert ChatTemplate.load(str(folder)).build(question, [""]) == template.build(question, [""])


def test_ids_of_the_vocabulary_stay(folder: Path, tokenizer: Tokenizer) -> None:
    files = read_tokenizer(str(folder))
    spelling = Spelling(files.control_tokens, "secret")
    spelled = files.load(spelling)
    vocab = tokenizer.get_vocab()
    assert spelled.get_vocab() == {spelling(token): index for token, index in vocab.items()}


def test_longer_tokens_are_found_first() -> None:
    spelling = Spelling(["<s>", "<s><s>", "[x]"], "0")
    assert spelling.apply("a<s><s><s>[x]") == ("a<0s><s><0s>[0x]", ["<s><s>", "<s>", "[x]"])
    assert spelling.apply("<s>[x]", without={"<s>"}) == ("<s>[0x]", ["[x]"])
    assert Spelling([], "0").apply("<s>") == ("<s>", [])


def test_merges_that_would_make_a_control_token_go() -> None:
    vocab = {"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4, "t": 5, "st": 6}
    model = {"type": "BPE", "vocab": vocab, "merges": ["< s", ["<s", ">"], "s t"]}
    added = [{"id": 4, "content": "<s>", "special": True}]
    backend = Spelling(["<s>"], "0").respell({"model": model, "added_tokens": added})
    assert backend["model"]["merges"] == ["< s", "s t"]
    assert backend["model"]["vocab"] == {
        "<0s>" if key == "<s>" else key: vocab[key] for key in vocab
    }
    assert model["vocab"] is vocab


def test_words_that_were_added_stay_words(checkpoint: Path, tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "added_tokens_decoder": {"900": {"content": "zebra"}}}
    folder = write_kind(
        checkpoint, tmp_path / "kind", "metaspace", files={"tokenizer_config.json": config}
    )
    template = ChatTemplate.load(str(folder))
    zebra = read_tokenizer(str(folder)).load().token_to_id("zebra")
    assert zebra in template.build("Is a zebra shown?", [""]).question


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ messages[0]['content'][-1].text }}<image><image>", "does not put the images before"),
        ("<image>{{ messages[0]['content'][-1].text }}", "does not put the images before"),
        ("<image><image>What?", "changes the question"),
        ("<image><image>{{ messages[0]['content'][-1].text | upper }}", "changes the question"),
        ("<image><image>{{ messages[0]['content'][-1].text * 2 }}", "changes the question"),
    ],
)
def test_a_template_of_another_order_is_refused(
    checkpoint: Path, tmp_path: Path, source: str, message: str
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", "vicuna")
    (folder / "chat_template.jinja").write_text(source)
    template = ChatTemplate.load(str(folder))
    with pytest.raises(ModelError, match=f"^[^\n]*the chat template {message}[^\n]*$"):
        template.build("Why?", ["", ""])
