"""A YAML file of options: names and values, nothing of what they mean."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from workers.errors import InputError

_MAX_BYTES = 2**20
"""A file of options has some forty lines; more is another file, or a device without an end."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as the number it is; YAML 1.1 wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)  # fmt: skip


def read_config(path: str) -> dict[str, object]:
    """Read a file of ``option: value`` lines; an empty one holds no option.

    Raises:
        InputError: it cannot be read, is not YAML, or gives a key twice.
    """
    text = _read(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if isinstance(node, yaml.MappingNode):
            _refuse_repetition(node, path)
        values: Any = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise InputError(f"--config {path}: not valid YAML ({_one_line(error)})") from None
    except (ValueError, OverflowError, RecursionError) as error:  # of a number, a date, a nest
        raise InputError(f"--config {path}: not valid YAML ({error})") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"--config {path}: must hold 'option: value' lines")
    return dict(values)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InputError(f"--config {path}: larger than a file of options can be")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from None
    except ValueError as error:  # of its bytes, or of its name
        raise InputError(f"--config {path}: {error}") from None


def _refuse_repetition(node: yaml.MappingNode, path: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in lines:
            raise InputError(
                f"--config {path}: {key.value} is given twice, in line {lines[key.value]} and in "
                f"line {line}"
            )
        lines[key.value] = line


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
