"""A checkpoint's chat template, rendered as transformers renders it, in a sandbox."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from workers.checkpoint import fetch, read_optional
from workers.errors import ModelError


class Template:
    """One chat template.

    Args:
        location: the checkpoint, for messages.
        source: in Jinja's language; untrusted.
        special_tokens: texts that it may name, such as ``bos_token``.

    Raises:
        ModelError: it is not valid.
    """

    def __init__(self, location: str, source: str, special_tokens: Mapping[str, str]) -> None:
        self._location = location
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"{location}: chat template: {error}") from None

    def render(self, messages: Sequence[Mapping[str, Any]], now: datetime) -> str:
        """Return the prompt's text: what was said, and the answer's opening.

        Args:
            messages: of the conversation, with images and texts.
            now: the time that the template may ask for.

        Raises:
            ModelError: it cannot render this conversation.
        """
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                strftime_now=now.strftime,
                **self._special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{self._location}: chat template: {reason}") from None


def read_template(
    location: str, processor_config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]
) -> str:
    """Return the source of a checkpoint's chat template, from where transformers looks first.

    Raises:
        ModelError: there is none.
    """
    sources = (
        processor_config.get("chat_template"),
        read_optional(location, "chat_template.json").get("chat_template"),
        _read_text(location, "chat_template.jinja"),
        tokenizer_config.get("chat_template"),
    )
    source = next((_default(source) for source in sources if source), None)
    if not isinstance(source, str):
        raise ModelError(
            f"{location}: no chat template, which says how a question is put to the model: write "
            "it, in Jinja as transformers has it, to chat_template.jinja in the checkpoint's folder"
        )
    return source


def _read_text(location: str, file: str) -> str | None:
    path = fetch(location, file, optional=True)
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except ValueError:
        raise ModelError(f"{path}: not UTF-8 text") from None


def _default(source: Any) -> Any:
    """Return the template called default where there are several by name."""
    if isinstance(source, list):
        source = {each.get("name"): each.get("template") for each in source}
    return source.get("default") if isinstance(source, dict) else source


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _fail
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment


class _Generation(Extension):
    """The tag around what an assistant says; here its text is like any other."""

    tags = {"generation"}  # noqa: RUF012  as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """What templates get for ``dict``: it makes one, and nothing of the class can be reached."""

    def __call__(self, *args: Any, **items: Any) -> dict[Any, Any]:
        return dict(*args, **items)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """Jinja's namespace without names that lead into Python's internals."""

    def __init__(*args: Any, **attributes: Any) -> None:  # one may be `self`
        for name in dict(*args[1:], **attributes):
            _check_name(name)
        Namespace.__init__(*args, **attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"it may not set an attribute {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is: Jinja's own filter escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _fail(message: str) -> None:
    raise jinja2.TemplateError(message)
