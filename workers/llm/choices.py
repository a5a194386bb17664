"""Choices of which an answer is one: how they are put to the model, and as which tokens.

They are counted where a run is planned, so nothing here needs torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = -1
"""Stands behind a choice's last token in :func:`next_tokens`."""

_INSTRUCTION = "Answer with the text of one of these options."


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A text that may be the answer, and the tokens by which the model says it."""

    text: str
    token_ids: tuple[int, ...]


def check_choices(choices: Sequence[str]) -> None:
    """Refuse choices among which there is nothing to choose; none at all are fine.

    Raises:
        InputError: a single one, one that is blank, or one given twice.
    """
    if len(choices) == 1:
        raise InputError(f"a single choice is none: give another beside {choices[0]!r}")
    seen: set[str] = set()
    for choice in choices:
        if not choice.strip():
            raise InputError(f"choice {choice!r} is blank: leave it out, or give it a text")
        if choice in seen:
            raise InputError(f"choice {choice!r} is given twice: leave one out")
        seen.add(choice)


def list_choices(question: str, choices: Sequence[str]) -> str:
    """Return a question followed by its choices; the question itself where there are none.

    The form is that of the multiple-choice benchmarks, a letter and a full stop before each choice
    on a line of its own, but for the instruction, which asks for the text and not for the letter::

        What color is the triangle?
        A. red
        B. blue
        Answer with the text of one of these options.
    """
    if not choices:
        return question
    lines = [f"{_letter(number)}. {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question, *lines, _INSTRUCTION])


def encode_choices(
    tokenizer: "Tokenizer", prompt: str, choices: Sequence[str]
) -> tuple[Choice, ...]:
    """Return the choices with their tokens as they go on from a prompt.

    A choice stands behind a blank, unless the prompt ends with one, with a line or with a special
    token: so it is in the conversations that checkpoints are trained on. Blanks around a choice are
    no part of its tokens.

    Args:
        tokenizer: reads special tokens that a choice spells as text.
        prompt: the last part of it, as it is tokenized.
        choices: texts.

    Raises:
        InputError: the tokenizer has no tokens for one, or the same for two.
    """
    found: dict[tuple[int, ...], str] = {}
    blank = "" if _ends_apart(tokenizer, prompt) else " "
    for text in choices:
        token_ids = _encode(tokenizer, prompt, blank, text.strip())
        if not token_ids:
            raise InputError(f"choice {text!r} has no tokens in the model's vocabulary: reword it")
        if token_ids in found:
            raise InputError(
                f"choices {found[token_ids]!r} and {text!r} are the same tokens to the model: "
                "reword one of them"
            )
        found[token_ids] = text
    return tuple(Choice(text=text, token_ids=token_ids) for token_ids, text in found.items())


def next_tokens(choices: Sequence[Choice], said: tuple[int, ...]) -> list[int]:
    """Return the tokens, ascending, with which choices go on that begin with what has been said.

    ``END`` is among them where a choice is complete. Cost: O(choices * tokens).
    """
    begun = (choice.token_ids for choice in choices if choice.token_ids[: len(said)] == said)
    return sorted({(*token_ids, END)[len(said)] for token_ids in begun})


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)


def _ends_apart(tokenizer: "Tokenizer", prompt: str) -> bool:
    added = tuple(token.content for token in tokenizer.get_added_tokens_decoder().values())
    return not prompt or prompt[-1].isspace() or prompt.endswith(added)


def _encode(tokenizer: "Tokenizer", prompt: str, blank: str, text: str) -> tuple[int, ...]:
    """Return the tokens of a text behind a prompt whose own tokens stay as they are.

    Where the prompt's last token would grow into the text, as a blank does that stands at its end,
    the tokens are those of the text at the beginning of a line.
    """
    for before, between in ((prompt, blank), ("\n", ""), ("", "")):
        head = tokenizer.encode(before, add_special_tokens=False).ids
        whole = tokenizer.encode(before + between + text, add_special_tokens=False).ids
        if whole[: len(head)] == head and len(whole) > len(head):
            return tuple(whole[len(head) :])
    return ()
