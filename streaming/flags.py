"""From flags, a YAML file or any other mapping of names to the nested options, and back."""

import argparse
import dataclasses
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from streaming.command import suggest
from streaming.option_groups import RIVALS
from streaming.options import Options
from streaming.ranges import Flag, flag
from workers.errors import InputError

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in :class:`Options` an option stands, and what it takes."""

    path: tuple[str, ...]
    title: str
    kind: type
    optional: bool
    choices: tuple[str, ...]
    default: object
    flag: Flag


@cache
def places(make: type = Options) -> Mapping[str, Place]:
    """Return every option by its name, in the order of the list of options."""
    return dict(_walk(make, {}, (), ""))


def add_options(
    parser: argparse.ArgumentParser,
    *,
    without: Sequence[str] = (),
    make: type = Options,
    helps: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add a flag for each option but those ``without``, grouped, and ``--config`` for a file.

    ``helps`` is what is said of options that a command takes otherwise, or has other defaults for.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; flags win over it")
    groups: dict[str, Any] = {}
    for name, place in places(make).items():
        if name in without:
            continue
        if place.title not in groups:
            groups[place.title] = parser.add_argument_group(place.title)
        settings: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if place.kind is not bool:
            metavar = {int: "N", float: "X"}.get(place.kind)
            choices = place.choices or None
            settings = {"type": place.kind, "choices": choices, "metavar": metavar}
        text = helps.get(name) or _help(place)
        groups[place.title].add_argument(flag(name), default=None, help=text, **settings)


def read_options(parsed: argparse.Namespace, defaults: Options | None = None) -> Options:
    """Merge the options of a run with what was given; see :func:`merge_options`."""
    return merge_options(parsed, defaults or Options())


def merge_options(parsed: argparse.Namespace, defaults: OptionsT) -> OptionsT:
    """Merge the file that ``--config`` names with the flags that were given.

    A flag goes before the file, also before its rival there.

    Args:
        parsed: of a parser with :func:`add_options`.
        defaults: what holds where neither says anything.

    Raises:
        InputError: the file cannot be read, or a name or value is not valid; one that stands in the
            file is named with it.
    """
    make: type = type(defaults)
    given = {name: getattr(parsed, name, None) for name in places(make)}
    given = {name: value for name, value in given.items() if value is not None}
    options = defaults
    if parsed.config is not None:
        from streaming.config_file import read_config

        source = f"--config {parsed.config}"
        values = _checked_types(read_config(parsed.config), make, source=source)
        beaten = {*given, *_rivals_of(given)}
        kept = {name: value for name, value in values.items() if name not in beaten}
        options = change(options, kept, source=source)
    return change(options, given, source="")


def change(options: OptionsT, values: Mapping[str, object], *, source: str) -> OptionsT:
    """Return the options with some of them replaced; each value beats its rival in ``options``.

    Args:
        options: what holds for every other name.
        values: by flat name with underscores; a whole number does for a fraction.
        source: where the values come from; it begins every error's text. Empty for flags.

    Raises:
        InputError: an unknown name, a value of another type, out of range, or against another.
    """
    try:
        make: type = type(options)
        checked = _checked_types(values, make, source="")
        for name, value in checked.items():
            places(make)[name].flag.check(name, value)
        return _replace(options, dict.fromkeys(_rivals_of(checked)) | checked)
    except InputError as error:
        raise InputError(f"{source}: {error}" if source else str(error)) from None


def flat(options: Options) -> dict[str, object]:
    """Return every option's value by its flat name, for reports and fingerprints."""
    values = {}
    make: type = type(options)
    for name, place in places(make).items():
        value: Any = options
        for step in place.path:
            value = getattr(value, step)
        values[name] = value
    return values


def _walk(
    make: type, flags: Mapping[str, Flag], path: tuple[str, ...], title: str
) -> Iterator[tuple[str, Place]]:
    kinds = get_type_hints(make)
    for each in dataclasses.fields(make):
        here = (*path, each.name)
        if "title" in each.metadata:
            heading = f"{each.name}: {each.metadata['title']}"
            yield from _walk(kinds[each.name], each.metadata["flags"], here, title or heading)
            continue
        known = each.metadata.get("flag") or flags.get(each.name)
        if known is None:
            continue
        annotation, optional = _without_none(kinds[each.name])
        choices = get_args(annotation) if get_origin(annotation) is Literal else known.choices
        yield (
            known.name or each.name,
            Place(
                path=here,
                title=title,
                kind=str if choices else annotation,
                optional=optional,
                choices=choices,
                default=each.default,
                flag=known,
            ),
        )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return ``int`` and True for ``int | None``."""
    if not isinstance(annotation, UnionType):
        return annotation, False
    (kind,) = (each for each in get_args(annotation) if each is not type(None))
    return kind, True


def _help(place: Place) -> str:
    if place.default is None:
        return place.flag.help
    words: dict[object, str] = {True: "on", False: "off"}
    default = words[place.default] if place.kind is bool else place.default
    return f"{place.flag.help} (default: {default})"


def _rivals_of(values: Mapping[str, object]) -> list[str]:
    """Return the names that what is given stands in for."""
    given = {name for name, value in values.items() if value is not None}
    pairs = [*RIVALS, *(pair[::-1] for pair in RIVALS)]
    return [second for first, second in pairs if first in given and second not in given]


def _checked_types(values: Mapping[str, object], make: type, *, source: str) -> dict[str, object]:
    """Return the values if every name is an option's and every value of its type."""
    prefix = f"{source}: " if source else ""
    checked = {}
    for name, value in values.items():
        if name not in places(make):
            hint = suggest(str(name), list(places(make)))
            raise InputError(f"{prefix}unknown option {reprlib.repr(name)}{hint}")
        checked[name] = _checked_type(prefix, name, places(make)[name], value)
    return checked


def _checked_type(prefix: str, name: str, place: Place, value: Any) -> object:
    if value is None and place.optional:
        return None
    if place.kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise InputError(f"{prefix}{flag(name)}: must be a finite number") from None
    if type(value) is not place.kind:
        raise InputError(
            f"{prefix}{name} must be of type {place.kind.__name__}, not {reprlib.repr(value)}"
        )
    if place.choices and value not in place.choices:
        raise InputError(
            f"{prefix}{name} {reprlib.repr(value)} is none of {', '.join(place.choices)}"
            f"{suggest(str(value), place.choices)}"
        )
    return value


def _replace(options: OptionsT, values: Mapping[str, object]) -> OptionsT:
    """Return the options with the values put in their places, the innermost group first."""
    tree: dict[str, Any] = {}
    make: type = type(options)
    for name, value in values.items():
        *groups, last = places(make)[name].path
        branch = tree
        for step in groups:
            branch = branch.setdefault(step, {})
        branch[last] = value
    replaced: OptionsT = _graft(options, tree)
    return replaced


def _graft(group: Any, tree: Mapping[str, Any]) -> Any:
    changes = {
        name: _graft(getattr(group, name), value) if isinstance(value, dict) else value
        for name, value in tree.items()
    }
    return dataclasses.replace(group, **changes)
