"""OpenAI's batch dialect: a line of requests to a row of ours, and a record back to a response.

A request is a user message with one ``video_url`` (or ``image_url``) and text. What this project
adds stands under ``mr_stream``: in ``body`` the options of the row, in a response the whole record.
"""

from collections.abc import Mapping
from typing import Any

from streaming.form import schema_of

URL = "/v1/chat/completions"
NAMES = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "temperature": "temperature",
    "seed": "seed",
}
"""What OpenAI calls options of ours."""
_ANSWERING = ("messages", "response_format", "mr_stream")
_ASKED = frozenset({"id", "video", "question", "questions"})
"""Columns of a row of ours that stand elsewhere in a request."""
_IGNORED = ("model", "stream", "n", "user", "metadata")


class DialectError(Exception):
    """A request that is none, or asks for what is not had here."""


def is_request(values: Mapping[str, Any]) -> bool:
    """Tell a request from a row of ours."""
    return "custom_id" in values


def read_request(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as a row of ours.

    Raises:
        DialectError: says what is wrong.
        InputError: its ``response_format`` is none, or has a schema beyond the limits.
    """
    if values.get("url", URL) != URL or values.get("method", "POST") != "POST":
        raise DialectError(f"must be a POST to {URL}")
    body = values.get("body")
    if not isinstance(body, dict):
        raise DialectError("'body' must be an object")
    if body.get("n", 1) != 1:
        raise DialectError("'n' must be 1: a question has one answer")
    unknown = sorted(set(body) - set(NAMES) - {*_ANSWERING, *_IGNORED})
    if unknown:
        raise DialectError(f"body.{unknown[0]} is not taken")
    video, question = _read_messages(body.get("messages"))
    options = body.get("mr_stream", {})
    if not isinstance(options, dict):
        raise DialectError("body.mr_stream must be an object of options")
    taken = sorted(_ASKED.intersection(options))
    if taken:
        raise DialectError(f"body.mr_stream.{taken[0]} is not taken: the request itself tells it")
    named = {ours: body[theirs] for theirs, ours in NAMES.items() if body.get(theirs) is not None}
    if (schema := schema_of(body.get("response_format"))) is not None:
        named["json_schema"] = schema
    return {"id": values["custom_id"], "video": video, "question": question, **named, **options}


def _read_messages(messages: Any) -> tuple[str, str]:
    """Return the clip's address and the question."""
    if not isinstance(messages, list) or len(messages) != 1:
        raise DialectError("body.messages must be one user message")
    (message,) = messages
    if not isinstance(message, dict) or message.get("role") != "user":
        raise DialectError("body.messages must be one user message")
    parts = message.get("content")
    parts = parts if isinstance(parts, list) else []
    if not all(isinstance(part, dict) for part in parts):
        raise DialectError("the message's content must be a list of objects")
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    clips = [_address(part) for part in parts if part.get("type") in ("video_url", "image_url")]
    if len(clips) != 1 or len(clips) + len(texts) < len(parts):
        raise DialectError("the message must hold one video_url and text, nothing else")
    for text in texts:
        if not isinstance(text, str):
            raise DialectError(f"a part of type text must hold a 'text', not {text!r}")
    if clips[0].startswith("data:"):
        raise DialectError("data: URLs are not taken in a batch; give a path or a URI")
    return clips[0], "\n".join(texts)


def _address(part: Mapping[str, Any]) -> str:
    value = part.get(part["type"])
    address = value.get("url") if isinstance(value, dict) else value
    if not isinstance(address, str):
        raise DialectError(f"{part['type']} must hold a 'url'")
    return address


def write_response(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line that answers a request."""
    key = record["key"]
    line = {"id": f"batch_req_{key}", "custom_id": record["id"], "mr_stream": dict(record)}
    if record["status"] != "ok":
        error = {"code": record["error_type"], "message": record["error_message"]}
        return line | {"response": None, "error": error}
    prompt = record["num_text_tokens"] + record["num_visual_tokens"]
    body = {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "model": record["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": record["answer"]},
                "finish_reason": record["finish_reason"],
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": record["num_answer_tokens"],
            "total_tokens": prompt + record["num_answer_tokens"],
        },
    }
    response = {"status_code": 200, "request_id": f"req_{key}", "body": body}
    return line | {"response": response, "error": None}
