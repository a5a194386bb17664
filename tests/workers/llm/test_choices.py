"""What choices look like in a prompt, and which tokens they are, on every kind of tokenizer."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.workers.llm.tokenizer_kinds import KINDS, write_kind
from workers.checkpoint import EMBEDDED, locate
from workers.errors import InputError
from workers.llm.chat_template import ChatTemplate
from workers.llm.choices import END, Choice, encode_choices, list_choices, next_tokens
from workers.llm.tokenizer import read_tokenizer

CHOICES = ["a red car", "red", "red and two dogs", "12", "What color?"]
LOSSLESS = sorted(KINDS.keys() - {"unigram"})  # that one has no letters for many


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


def read_back(tokenizer: Tokenizer, question: tuple[int, ...], choice: Choice) -> str:
    """Return what a choice's tokens add to the text of the prompt."""
    before = tokenizer.decode(list(question), skip_special_tokens=False)
    whole = tokenizer.decode([*question, *choice.token_ids], skip_special_tokens=False)
    assert whole.startswith(before)
    return whole[len(before) :]


def test_choices_stand_on_lettered_lines_behind_the_question() -> None:
    assert list_choices("What is it?", ["a cat", "a dog"]) == (
        "What is it?\nA. a cat\nB. a dog\nAnswer with the text of one of these options."
    )
    assert list_choices("What is it?", []) == "What is it?"


def test_letters_go_on_behind_z() -> None:
    lines = list_choices("?", [str(number) for number in range(704)]).splitlines()
    letters = {int(text): letter for letter, text in (line.split(". ") for line in lines[1:-1])}
    expected = {0: "A", 25: "Z", 26: "AA", 27: "AB", 51: "AZ", 52: "BA", 701: "ZZ", 702: "AAA"}
    assert {number: letters[number] for number in expected} == expected


@pytest.mark.parametrize("kind", LOSSLESS, indirect=True)
def test_the_prompt_is_that_of_the_listed_question(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    prompt = template.build("What is it?", ["", ""], CHOICES)
    plain = template.build(list_choices("What is it?", CHOICES), ["", ""])
    assert (prompt.frame_segments, prompt.question) == (plain.frame_segments, plain.question)
    assert plain.choices == ()
    text = tokenizer.decode(list(prompt.question), skip_special_tokens=False)
    assert "A. a red car" in text


@pytest.mark.parametrize("kind", LOSSLESS, indirect=True)
def test_the_tokens_of_a_choice_say_its_text(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    texts = [*CHOICES, "naïve 猫 🙂", "  blanks around\n", *special, *(f"a {e} b" for e in special)]
    prompt = template.build("What is it?", [""], texts)
    assert [choice.text for choice in prompt.choices] == texts
    for choice in prompt.choices:
        assert read_back(tokenizer, prompt.question, choice).strip() == choice.text.strip()


def test_the_tokens_are_those_of_the_text_right_behind_the_prompt(
    template: ChatTemplate, tokenizer: Tokenizer, kind: str
) -> None:
    """As a model learns them: the ids of a whole conversation, cut where the answer begins."""
    blank = "" if kind in ("llama 3", "qwen 2", "yi", "granite") else " "  # others end in mid-line
    prompt = template.build("Why?", [""], CHOICES)
    text = tokenizer.decode(list(prompt.question), skip_special_tokens=False)
    for choice in template.build("Why?", [""], CHOICES).choices:
        ids = tokenizer.encode(text + blank + choice.text, add_special_tokens=False).ids
        assert tuple(ids[-len(choice.token_ids) :]) == choice.token_ids
        assert read_back(tokenizer, prompt.question, choice) == blank + choice.text


def test_a_choice_that_spells_special_tokens_has_none(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    added = set(tokenizer.get_added_tokens_decoder()) - {tokenizer.token_to_id("<unk>")}
    words = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    for word in words:
        prompt = template.build("Why?", ["", ""], [f"{word} {word}", f"a {word}b"])
        assert len(prompt.frame_segments) == 2
        assert not added & {token for choice in prompt.choices for token in choice.token_ids}


@pytest.mark.parametrize("kind", ["llama 3"], indirect=True)
def test_a_special_token_that_ends_the_prompt_is_followed_by_no_blank(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", kind)
    source = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(source + "{{ '<|start_header_id|>' }}")
    prompt = ChatTemplate.load(str(folder)).build("Why?", [""], ["red", "a red car"])
    tokenizer = read_tokenizer(str(folder)).load()
    said = [read_back(tokenizer, prompt.question, choice) for choice in prompt.choices]
    assert said == ["red", "a red car"]


@pytest.mark.parametrize("name", ["qwen 2", "yi"])
def test_a_blank_that_ends_the_prompt_is_not_said_again(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    folder = write_kind(checkpoint, tmp_path / "kind", name)
    source = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(source + "{{ 'It is ' }}")
    prompt = ChatTemplate.load(str(folder)).build("Why?", [""], ["red", "a red car"])
    tokenizer = read_tokenizer(str(folder)).load()
    assert tokenizer.decode(list(prompt.question)).endswith("\nIt is ")
    said = [read_back(tokenizer, prompt.question, choice) for choice in prompt.choices]
    assert said == ["red", "a red car"]


def test_the_embedded_model_is_given_its_choices_as_it_learned_answers() -> None:
    template = ChatTemplate.load(locate(EMBEDDED))
    tokenizer = read_tokenizer(locate(EMBEDDED)).load()
    blue, _ = template.build("Why?", [""], ["blue", "red"]).choices
    assert [tokenizer.id_to_token(token) for token in blue.token_ids] == ["Ġblue"]


@pytest.mark.parametrize("kind", ["vicuna"], indirect=True)
@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["red"], "a single choice is none: give another beside 'red'"),
        (["red", " \n"], r"choice ' \n' is blank: leave it out, or give it a text"),
        (["red", "blue", "red"], "choice 'red' is given twice: leave one out"),
        (["red", " red"], "choices 'red' and ' red' are the same tokens to the model: reword one"),
    ],
)
def test_what_is_no_choice_is_refused(
    template: ChatTemplate, choices: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        template.build("Why?", [""], choices)


@pytest.mark.parametrize("kind", ["unigram"], indirect=True)
def test_letters_that_the_model_cannot_tell_apart_are_refused(template: ChatTemplate) -> None:
    with pytest.raises(
        InputError, match=r"^choices '鳥' and '犬' are the same tokens to the model"
    ):
        template.build("Why?", [""], ["鳥", "犬"])


class NoTokens:
    """A tokenizer whose vocabulary lacks every letter."""

    ids: Sequence[int] = []

    def encode(self, text: str, add_special_tokens: bool) -> "NoTokens":
        return self

    def get_added_tokens_decoder(self) -> dict[int, str]:
        return {}


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match=r"^choice 'b' has no tokens in the model's vocabulary"):
        encode_choices(cast(Tokenizer, NoTokens()), "", ["b", "c"])


token_lists = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, unique=True
)


@given(token_lists)
def test_only_choices_can_be_said(lists: list[tuple[int, ...]]) -> None:
    choices = [Choice(text=str(ids), token_ids=ids) for ids in lists]
    complete, begun = set(), [()]
    while begun:
        said = begun.pop()
        following = next_tokens(choices, said)
        assert following == sorted(set(following))
        complete |= {said} if END in following else set()
        begun += [(*said, token) for token in following if token != END]
    assert complete == set(lists)
