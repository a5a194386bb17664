"""What an entry of stored tokens can be asked: the options it was made with, and what fits them."""

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from streaming.flags import change, flat, places
from streaming.option_groups import FrameOptions
from streaming.options import Options
from streaming.ranges import flag
from workers.disk.manifest import Manifest
from workers.errors import InputError, display_name
from workers.frames import Pruning
from workers.video.entry_source import EntrySource
from workers.vision.geometry import TileGeometry

if TYPE_CHECKING:
    from streaming.clip_plan import ClipPlan

_GROUPS = ("frames", "pruning", "budget")


def recorded_options(plan: "ClipPlan") -> dict[str, Any]:
    """Return the options of a run, by flat name, that are kept with its tokens.

    They are what the same tokens are asked with unless something else is said.
    """
    options = plan.options
    made = {k: v for k, v in flat(options).items() if places()[k].path[0] in _GROUPS}
    made["seed"] = options.generation.seed
    if options.pruning.pruner != "none":
        made |= {"keep_ratio": None, "budget": plan.budget}
    return made


def entry_options(source: EntrySource) -> Options:
    """Return the options an entry was made with, all others at their defaults."""
    options: Any = source.manifest.options
    return change(Options(), options, source=display_name(source.path))


def check_frames(source: EntrySource, frames: FrameOptions, tiles: TileGeometry) -> None:
    """Refuse other frames than those of an entry.

    Raises:
        InputError: names the option.
    """
    made = entry_options(source).frames
    given = {each.name: getattr(frames, each.name) for each in fields(frames)}
    if given["num_frames"] == source.num_frames:
        given["num_frames"] = None
    for name, value in given.items():
        if value is not None and value != getattr(made, name):
            raise _conflict(source, name, value, getattr(made, name))
    key = source.manifest.key
    if tiles.to_json() != key["tiles"]:
        raise InputError(
            f"{display_name(source.path)}: was made by a model that cuts other tiles than --model; "
            "name the model it was made with"
        )


def check_dtype(source: EntrySource, dtype: str) -> None:
    """Refuse features of another dtype than those of an entry.

    Raises:
        InputError: names the option.
    """
    made = source.manifest.key["dtype"]
    if dtype not in ("auto", made):
        raise _conflict(source, "dtype", dtype, made)


def check_pruning(
    source: EntrySource, options: Options, pruning: Pruning, make: Callable[[int], Pruning]
) -> None:
    """Refuse another ranking than that of an entry, or more of it than it holds.

    Args:
        source: the entry.
        options: of the run.
        pruning: what they come to.
        make: what they come to at another budget.

    Raises:
        InputError: names the option, and the largest budget that can be served.
    """
    manifest = source.manifest
    held, made = manifest.pruning, entry_options(source)
    if pruning.method != held.method:
        raise _conflict(source, "pruner", options.pruning.pruner, made.pruning.pruner)
    for name, value in flat(options).items():
        if name in _ranking_options(pruning, held) and value != flat(made)[name]:
            raise _conflict(source, name, value, flat(made)[name])
    if pruning.stand_ins and not held.stand_ins:
        raise InputError(
            f"{display_name(source.path)}: does not tell which tokens stand for others; use "
            "--attention plain, or ask the video"
        )
    if not _covers(held, pruning):
        raise InputError(_too_much(source, options, manifest, make))


def _ranking_options(pruning: Pruning, held: Pruning) -> list[str]:
    """Return the options of which one must be why two rankings differ."""
    names = []
    if pruning.seed != held.seed:
        names.append("seed")
    if pruning.newlines_last != held.newlines_last:
        names.append("newlines")
    if pruning.settings != held.settings:
        names += [name for name in flat(Options()) if name.startswith("pruner_")]
    return names


def _covers(held: Pruning, pruning: Pruning) -> bool:
    return held.num_keep >= pruning.num_keep and held.max_keep >= pruning.max_keep


def _too_much(
    source: EntrySource, options: Options, manifest: Manifest, make: Callable[[int], Pruning]
) -> str:
    name, held = display_name(source.path), manifest.pruning
    if not _covers(held, make(1)):
        return f"{name}: holds at most {held.max_keep} tokens of a frame; lower --headroom"
    low, high = 1, max(manifest.made_for_budget, options.budget.budget or 1)
    while low < high:  # the largest budget that is served is in [low, high]
        middle = (low + high + 1) // 2
        if _covers(held, make(middle)):
            low = middle
        else:
            high = middle - 1
    return f"{name}: serves a --budget of at most {low} so; lower it, or ask the video"


def _conflict(source: EntrySource, name: str, given: object, made: object) -> InputError:
    shown, told = (_words(name, value) for value in (given, made))
    return InputError(
        f"{shown}: {display_name(source.path)} was made with {told}; leave it out, or ask the video"
    )


def _words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"no {flag(name)}" if value is None else f"{flag(name)} {value}"
