"""The messages of a conversation: who said what, about which clip."""

from collections.abc import Sequence
from typing import Any

from streaming.command import check_text
from streaming.serve.content import ClipPart, read_content
from streaming.serve.failures import bad_request
from workers.errors import InputError
from workers.llm.choices import check_choices
from workers.llm.dialogue import Turn

NO_CLIP = (
    'no clip came with the messages, and without one nothing is answered here: give one as {"type":'
    ' "video_url", "video_url": {"url": "data:video/mp4;base64,..."}} in the content of a user'
    " message, or upload it to /v1/files and give its id as the url"
)


def read_messages(messages: Any, most_pictures: int) -> tuple[list[Turn], ClipPart]:
    """Return what was said, a question last, and the one clip that it is about, named once or more.

    Args:
        messages: of a conversation.
        most_pictures: of the clip.

    Raises:
        RequestError: there is no clip or no question, or the turns are in no order.
    """
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a list with a user message", "messages")
    turns: list[Turn] = []
    known: ClipPart | None = None
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        role: Any = message.get("role") if isinstance(message, dict) else None
        role = "system" if role == "developer" else role
        if role not in ("system", "user", "assistant"):
            raise bad_request(f"{where}.role must be system, user or assistant", where)
        content = message.get("content")
        if content is None and role == "assistant":
            content = ""
        text, clip = read_content(content, where, most_pictures)
        if clip is not None:
            if role != "user":
                raise bad_request("a clip belongs into a user message", where)
            if known not in (None, clip):
                raise bad_request(
                    "a conversation is about one clip, and there are several", "messages"
                )
            known = clip
        is_question = place == len(messages) - 1
        turns.append(Turn(role=role, text=checked_text(text, where, may_be_blank=not is_question)))
    if known is None:
        raise bad_request(NO_CLIP, "messages")
    _check_order(turns)
    return turns, known


def _check_order(turns: Sequence[Turn]) -> None:
    said = [turn.role for turn in turns]
    spoken = said[1:] if said[0] == "system" else said
    expected = [("user", "assistant")[place % 2] for place in range(len(spoken))]
    if spoken != expected or len(spoken) % 2 == 0:
        raise bad_request(
            "messages must be at most one system message, then user and assistant in turn, a user "
            "message last",
            "messages",
        )


def checked_choices(choices: Any, where: str) -> tuple[str, ...]:
    """Return texts of which an answer is to be one; ``where`` they stand is for errors.

    Raises:
        RequestError: they are no texts, or no choice.
    """
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        raise bad_request(f"{where} must be a list of texts", where)
    try:
        check_choices(choices)
    except InputError as error:
        raise bad_request(str(error), where) from None
    return tuple(checked_text(text, where) for text in choices)


def checked_text(text: str, where: str, *, may_be_blank: bool = False) -> str:
    """Return a text that is one; ``where`` it stands is for errors.

    Raises:
        RequestError: it is blank where it may not be, or no text.
    """
    if may_be_blank and not text.strip():
        return text
    try:
        check_text(text, what=f"the text of {where}")
    except InputError as error:
        raise bad_request(str(error), where) from None
    return text
