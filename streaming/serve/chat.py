"""A chat completion's body to what is asked of which clip. Nothing is opened or fetched here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from streaming.batch.openai import NAMES
from streaming.command import suggest
from streaming.flags import change, places
from streaming.options import Options
from streaming.serve.content import ClipPart
from streaming.serve.failures import bad_request, explain
from streaming.serve.messages import checked_choices, read_messages
from streaming.serve.schemas import requested_schema
from workers.errors import InputError
from workers.llm.dialogue import Dialogue

_GROUPS = ("frames", "pruning", "budget", "generation")
_NOT_FOR_CLIENTS = ("decoder",)
_IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "verbosity", "parallel_tool_calls",
)  # fmt: skip
"""Parameters that change nothing here."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
}
"""Parameters that are not had, with the values at which they change nothing."""
_READ = (
    "model", "messages", "stream", "stream_options", "mr_stream", "media_io_kwargs",
    "response_format",
)  # fmt: skip
_OURS = ("choices", "evidence", "progress")
"""What ``mr_stream`` holds beside options."""
_MEDIA_OPTIONS = ("num_frames", "fps")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chat:
    """One question about one clip, under the options of a run; ``changes`` are the request's."""

    clip: ClipPart
    question: Dialogue
    choices: tuple[str, ...]
    options: Options
    changes: Mapping[str, object]
    model: str | None
    stream: bool
    include_usage: bool
    evidence: bool
    progress: bool
    """Whether it is told how far the clip is while it is encoded."""


@cache
def client_options() -> tuple[str, ...]:
    """Return the options that a request may set for itself."""
    named = (name for name, place in places().items() if place.path[0] in _GROUPS)
    return tuple(name for name in named if name not in _NOT_FOR_CLIENTS)


def read_chat(body: Any, options: Options, most_pictures: int) -> Chat:
    """Read the body of a chat completion.

    Args:
        body: what its JSON says.
        options: what holds where it says nothing.
        most_pictures: of a clip.

    Raises:
        RequestError: says what is wrong, and with which parameter.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    _check_names(body)
    turns, clip = read_messages(body.get("messages"), most_pictures)
    ours = _object(body, "mr_stream")
    stream, progress = _flag(body, "stream"), _flag(ours, "progress")
    if progress and not stream:
        raise bad_request("mr_stream.progress is told on the way: give stream: true", "mr_stream")
    evidence, choices = _flag(ours, "evidence"), _read_choices(ours)
    values = _changes(body, ours)
    if choices and values.setdefault("json_schema", None) is not None:
        raise bad_request("give response_format or mr_stream.choices, not both", "mr_stream")
    if clip.is_pictures and not {"num_frames", "fps"} & values.keys():
        values["num_frames"] = len(clip.addresses)
    return Chat(
        clip=clip,
        question=Dialogue(turns[-1].text, turns[:-1]),
        choices=choices,
        options=_changed(options, values),
        changes=values,
        model=_model(body),
        stream=stream,
        include_usage=_flag(_object(body, "stream_options"), "include_usage"),
        evidence=evidence,
        progress=progress,
    )


def _check_names(body: Mapping[str, Any]) -> None:
    known = [*_READ, *NAMES, *_IGNORED, *_NEUTRAL]
    for name, value in body.items():
        if value is None:
            continue
        if name not in known:
            hint = suggest(name, known)
            raise bad_request(f"unrecognized request argument supplied: {name}{hint}", name)
        if name in _NEUTRAL and value not in _NEUTRAL[name]:
            raise bad_request(f"{name} is not had here: leave it out", name)


def _read_choices(ours: Mapping[str, Any]) -> tuple[str, ...]:
    given = ours.get("choices")
    if given is None:
        return ()
    return checked_choices(given, "mr_stream.choices")


def _changes(body: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, object]:
    """Return options by name: OpenAI's, those of vLLM's media loader, and our own."""
    values: dict[str, object] = {
        ours: body[theirs] for theirs, ours in NAMES.items() if body.get(theirs) is not None
    }
    if body.get("response_format") is not None:  # of any type it goes before the server's schema
        values["json_schema"] = requested_schema(body["response_format"])
    media = _object(body, "media_io_kwargs")
    for kind, given in media.items():
        if kind != "video" or not isinstance(given, dict):
            raise bad_request('media_io_kwargs takes {"video": {...}} only', "media_io_kwargs")
        for name, value in given.items():
            if name not in _MEDIA_OPTIONS:
                raise bad_request(f"media_io_kwargs.video.{name} is not taken", "media_io_kwargs")
            values[name] = value
    for name, value in ours.items():
        if name in _OURS:
            continue
        if name not in client_options():
            hint = suggest(name, [*client_options(), *_OURS])
            raise bad_request(f"mr_stream.{name} is not taken{hint}", f"mr_stream.{name}")
        values[name] = value
    if values.get("pruner") == "none":  # which has no budget, whatever the server's is
        values.setdefault("budget", None)
        values.setdefault("keep_ratio", None)
    return values


def _changed(options: Options, values: Mapping[str, object]) -> Options:
    try:
        return change(options, values, source="")
    except InputError as error:
        raise explain(error) from None


def _model(body: Mapping[str, Any]) -> str | None:
    model = body.get("model")
    if not isinstance(model, str | None):
        raise bad_request("model must be a text", "model")
    return model


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object", name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise bad_request(f"{name} must be true or false", name)
    return bool(value)
