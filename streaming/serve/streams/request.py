"""The body that opens a stream, to what is opened and asked. Nothing is opened here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streaming.command import suggest
from streaming.options import Options
from streaming.serve.failures import bad_request
from streaming.serve.messages import checked_choices, checked_text
from streaming.serve.streams.options import StreamOptions, settle_options
from streaming.watch.standing import DEFAULT_CONFIRM, DEFAULT_EVERY_SECONDS, StandingQuestion

MOST_QUESTIONS = 16
_NAMES = ("url", "name", "questions", "mr_stream")
_QUESTION_NAMES = ("question", "choices", "every", "on_change")
_NAME_LETTERS = 100
_LEAST_EVERY, _MOST_EVERY = 0.1, 86_400.0
_MOST_CONFIRM = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamRequest:
    """A stream that is to be opened; without a ``name`` it is called after its address."""

    url: str
    name: str | None
    questions: tuple[StandingQuestion, ...]
    options: StreamOptions


def read_stream(body: Any, options: Options) -> StreamRequest:
    """Read the body of a request for a stream.

    Args:
        body: what its JSON says.
        options: what holds where it says nothing.

    Raises:
        RequestError: says what is wrong, and with which parameter.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    _check_names(body, _NAMES, "")
    if not isinstance(body.get("url"), str):
        raise bad_request("url must be the address of a source", "url")
    ours = body.get("mr_stream")
    if not isinstance(ours, dict | None):
        raise bad_request("mr_stream must be an object", "mr_stream")
    return StreamRequest(
        url=body["url"],
        name=_read_name(body.get("name")),
        questions=_read_questions(body.get("questions")),
        options=settle_options(options, ours or {}),
    )


def show_question(question: StandingQuestion) -> dict[str, Any]:
    """Return a standing question as it is read here."""
    return {
        "question": question.text,
        "choices": list(question.choices),
        "every": question.every_seconds,
        "on_change": question.confirm,
    }


def _check_names(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise bad_request(f"{where}{name} is not taken{suggest(name, known)}", where + name)


def _read_name(name: Any) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise bad_request("name must be a text of one line", "name")
    if len(name) > _NAME_LETTERS:
        raise bad_request(f"name may have at most {_NAME_LETTERS} letters", "name")
    return name


def _read_questions(given: Any) -> tuple[StandingQuestion, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MOST_QUESTIONS:
        raise bad_request(f"questions must be a list of at most {MOST_QUESTIONS}", "questions")
    return tuple(_read_question(each, f"questions[{n}]") for n, each in enumerate(given))


def _read_question(given: Any, where: str) -> StandingQuestion:
    if isinstance(given, str):
        return StandingQuestion(text=checked_text(given, where))
    if not isinstance(given, dict) or not isinstance(given.get("question"), str):
        raise bad_request(f"{where} must be a text, or an object with a question", where)
    _check_names(given, _QUESTION_NAMES, f"{where}.")
    choices = given.get("choices")
    return StandingQuestion(
        text=checked_text(given["question"], where),
        choices=() if not choices else checked_choices(choices, f"{where}.choices"),
        every_seconds=_read_every(given.get("every"), f"{where}.every"),
        confirm=_read_confirm(given.get("on_change"), f"{where}.on_change"),
    )


def _read_every(given: Any, where: str) -> float:
    if given is None:
        return DEFAULT_EVERY_SECONDS
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not _LEAST_EVERY <= given <= _MOST_EVERY:
        text = f"{where} must be a number of seconds from {_LEAST_EVERY:g} to {_MOST_EVERY:g}"
        raise bad_request(text, where)
    return float(given)


def _read_confirm(given: Any, where: str) -> int | None:
    if given is None or given is False:
        return None
    if given is True:
        return DEFAULT_CONFIRM
    if not isinstance(given, int) or not 1 <= given <= _MOST_CONFIRM:
        raise bad_request(f"{where} must be true or how often in a row, at least 1", where)
    return given
