"""A checkpoint's tokenizer, read from its files without transformers.

transformers loads LLaVA-NeXT's tokenizers from ``tokenizer.json``, whatever class a checkpoint
names, and adds the tokens of its other files. So does this module: the ids are the same.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from workers.checkpoint import fetch, read_json, read_optional
from workers.errors import ModelError
from workers.llm.spelling import Spelling

_NAMES = [f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenizerFiles:
    """What a checkpoint's files say about its tokenizer.

    ``backend`` is the content of ``tokenizer.json``; ``additions`` are added to it, in this order;
    ``special_tokens`` are the texts of those with a name, such as ``bos_token``; ``config`` is
    ``tokenizer_config.json``.
    """

    location: str
    backend: dict[str, Any]
    additions: tuple[AddedToken, ...]
    special_tokens: dict[str, str]
    config: dict[str, Any]

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts of the added tokens, but for blanks and mere words that somebody taught a model."""
        stored = map(_read_token, self.backend["added_tokens"])
        return tuple(
            token.content
            for token in (*stored, *self.additions)
            if token.special or not _is_word(token.content)
        )

    def load(self, spelling: Spelling | None = None) -> Tokenizer:
        """Return the tokenizer, with its control tokens under other names if asked for.

        Raises:
            ModelError: the tokenizers library cannot use ``tokenizer.json``.
        """
        backend, additions = self.backend, list(self.additions)
        try:
            if spelling:
                backend = spelling.respell(backend)
                additions = [_rename(token, spelling) for token in additions]
            tokenizer = Tokenizer.from_str(json.dumps(backend))
        except Exception as error:  # the library raises nothing more precise
            raise ModelError(f"{self.location}: tokenizer.json: {_first_line(error)}") from None
        tokenizer.add_tokens(additions)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def read_tokenizer(location: str) -> TokenizerFiles:
    """Read a checkpoint's tokenizer.

    Where there is no ``tokenizer.json``, transformers makes one of the other files, which takes
    seconds.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.

    Raises:
        ModelError: a file is missing or is not what it should be.
    """
    path = fetch(location, "tokenizer.json", optional=True)
    config = read_optional(location, "tokenizer_config.json")
    if path is None:
        return _convert(location, config)
    backend = read_json(path)
    stored = backend.setdefault("added_tokens", [])
    if not isinstance(backend.get("model"), dict):
        raise ModelError(f"{location}: tokenizer.json: it describes no model")
    try:
        settings = _read_settings(location, config)
        listed = _read_additions(location, settings)
        named, others = _read_special_tokens(settings, listed)
        additions = _missing(stored, listed.values(), named.values(), others)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{location}: tokenizer_config.json: {_first_line(error)}") from None
    return TokenizerFiles(
        location=location,
        backend=backend,
        additions=tuple(additions),
        special_tokens={name: str(token) for name, token in named.items()},
        config=config,
    )


def _convert(location: str, config: dict[str, Any]) -> TokenizerFiles:
    if fetch(location, "tokenizer.model", optional=True) is None:
        raise ModelError(f"{location}: no tokenizer.json and no tokenizer.model")
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        content = json.loads(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise ModelError(
            f"{location}: no tokenizer.json, and transformers cannot make one of tokenizer.model: "
            f"{_first_line(error)}"
        ) from None
    return TokenizerFiles(
        location=location,
        backend=content,
        additions=(),
        special_tokens=dict(tokenizer.special_tokens_map),
        config=config,
    )


def _read_settings(location: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tokenizer_config.json``, completed by the file that older checkpoints have."""
    settings = dict(config)
    if not settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens", None)
    if "added_tokens_decoder" not in config:
        settings |= read_optional(location, "special_tokens_map.json")
    return settings


def _read_additions(location: str, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Return the added tokens listed outside ``tokenizer.json``, by ascending id."""
    if "added_tokens_decoder" in settings:
        stored = settings["added_tokens_decoder"].items()
        listed = {int(index): _read_token(token) for index, token in stored}
    else:
        named = [settings[name] for name in _NAMES if settings.get(name)]
        special = {_text(token) for token in (*named, *(settings["extra_special_tokens"] or ()))}
        listed = {
            index: AddedToken(text, normalized=text not in special, special=text in special)
            for text, index in read_optional(location, "added_tokens.json").items()
        }
    return dict(sorted(listed.items()))


def _read_special_tokens(
    settings: Mapping[str, Any], listed: Mapping[int, AddedToken]
) -> tuple[dict[str, str | AddedToken], list[str | AddedToken]]:
    """Return the special tokens that have a name, and those that have none."""
    extra = settings["extra_special_tokens"] or settings.get("additional_special_tokens") or []
    if isinstance(extra, dict):
        settings, extra = dict(settings) | extra, []
    by_text = {token.content: token for token in listed.values()}
    others = [name for name in settings if name.endswith("_token") and name not in _NAMES]
    named = {
        name: by_text.get(_text(settings[name]), _token(settings[name]))
        for name in (*_NAMES, *others)
        if isinstance(settings.get(name), str | dict)
    }
    return named, [_token(token) for token in extra]


def _missing(
    stored: list[dict[str, Any]],
    listed: Iterable[AddedToken],
    named: Iterable[str | AddedToken],
    others: Iterable[str | AddedToken],
) -> list[AddedToken]:
    """Return what is to be added to the tokens stored, in transformers' order."""
    exact = {repr(_read_token(token)) for token in stored}
    missing: list[Any] = [token for token in listed if repr(token) not in exact]
    held = {token["content"] for token in stored} | set(map(str, missing))
    named = list(named)
    for token in (*named, *others):
        if str(token) not in held:
            held.add(str(token))
            missing.append(token)
    return [_mark_special(token, set(map(str, named))) for token in missing]


def _mark_special(token: str | AddedToken, names: set[str]) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    special = token.special or token.content in names
    return AddedToken(**token.__getstate__() | {"special": special})


def _rename(token: AddedToken, spelling: Spelling) -> AddedToken:
    return AddedToken(**token.__getstate__() | {"content": spelling(token.content)})


def _read_token(token: Mapping[str, Any]) -> AddedToken:
    return AddedToken(**{key: token[key] for key in token if key not in ("id", "__type")})


def _token(value: str | dict[str, Any]) -> str | AddedToken:
    return value if isinstance(value, str) else _read_token(value | {"special": True})


def _text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else str(value["content"])


def _is_word(text: str) -> bool:
    return text.isspace() or text.replace(" ", "").isalnum()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
