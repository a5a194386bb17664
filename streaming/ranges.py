"""What an option is beside its type and default: its help, its range, its name as a flag."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option's help and range; ``least`` and ``most`` are in the range, ``above`` is not.

    ``name`` and ``choices`` are for fields of classes that stand elsewhere: an option's own field
    has its own name, and a ``Literal`` for its choices.
    """

    help: str
    name: str = ""
    choices: tuple[str, ...] = ()
    least: int | float | None = None
    above: int | float | None = None
    most: int | float | None = None

    def check(self, name: str, value: object) -> None:
        """Refuse a number that is out of range or not finite; what is no number passes.

        Raises:
            InputError: names the flag, the value and the range.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{flag(name)} {value:g}: must be a finite number")
        too_small = (self.least is not None and value < self.least) or (
            self.above is not None and value <= self.above
        )
        if too_small or (self.most is not None and value > self.most):
            raise InputError(f"{flag(name)} {_number(value)}: must be {self._range()}")

    def _range(self) -> str:
        sides = {"above": self.above, "at least": self.least, "at most": self.most}
        return " and ".join(
            f"{words} {side:,}" for words, side in sides.items() if side is not None
        )


def flag(name: str) -> str:
    """Return an option's name as it is typed."""
    return "--" + name.replace("_", "-")


def option(default: Any, text: str, **known: Any) -> Any:
    """Declare a field that is an option; ``known`` are fields of :class:`Flag`."""
    return field(default=default, metadata={"flag": Flag(help=text, **known)})


def group(make: Callable[[], Any], title: str, **flags: Flag) -> Any:
    """Declare a nested group of options.

    Args:
        make: the group's class.
        title: of the group in the list of options.
        flags: by field, where the class cannot carry them itself; a field without one is no option.
    """
    return field(default_factory=make, metadata={"title": title, "flags": flags})


def check_group(values: Any, *, rivals: Sequence[tuple[str, str]]) -> None:
    """Check every option of a group, then that of two rivals at most one is given.

    Raises:
        InputError: names the flags.
    """
    for each in dataclasses.fields(values):
        value = getattr(values, each.name)
        if "flag" in each.metadata:
            each.metadata["flag"].check(each.name, value)
        for name, known in each.metadata.get("flags", {}).items():
            known.check(known.name or name, getattr(value, name))
    for first, second in rivals:
        if getattr(values, first, None) is not None and getattr(values, second, None) is not None:
            raise InputError(f"give {flag(first)} or {flag(second)}, not both")


def _number(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if abs(value) < 10**30 else f"of {value.bit_length()} bits"
