"""The form of an answer as a client asks for it: what is refused, as the client is told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from streaming.form import check_form, named_response_format, schema_of
from streaming.serve.failures import bad_request
from workers.errors import InputError
from workers.llm.answer import SamplingOptions


def requested_schema(response_format: Any) -> str | None:
    """Return the text of the JSON schema that an answer is to follow, None where it is free.

    Args:
        response_format: ``text``, ``json_object``, or ``json_schema`` with a schema.

    Raises:
        RequestError: it is another, or has no schema, or one beyond the limits.
    """
    with _told():
        return schema_of(response_format)


def check_served_form(sampling: SamplingOptions, choices: Sequence[str]) -> None:
    """Refuse a schema that no answer can follow, before a clip is looked at.

    Raises:
        RequestError: says why.
    """
    with _told(), named_response_format():
        check_form(sampling, choices)


@contextmanager
def _told() -> Iterator[None]:
    """Tell the client what is wrong with its schema: it says nothing but what the client sent."""
    try:
        yield
    except InputError as error:
        raise bad_request(str(error), "response_format") from None
