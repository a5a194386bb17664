"""The numbers of a training run."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_MIXTURES: tuple[tuple[int, dict[int, float]], ...] = (
    (0, {1: 0.5, 2: 0.35, 3: 0.15}),
    (350, {1: 0.25, 2: 0.3, 3: 0.3, 4: 0.15}),
    (600, {1: 0.2, 2: 0.25, 3: 0.2, 4: 0.25, 6: 0.1}),
    (950, {1: 0.14, 2: 0.22, 3: 0.18, 4: 0.18, 6: 0.1, 8: 0.1, 16: 0.08}),
    (1400, {1: 0.1, 2: 0.16, 3: 0.14, 4: 0.18, 6: 0.12, 8: 0.12, 16: 0.14, 32: 0.04}),
    (1900, {1: 0.06, 2: 0.1, 3: 0.1, 4: 0.14, 6: 0.1, 8: 0.11, 16: 0.21, 32: 0.14, 64: 0.04}),
)
DEFAULT_TYPE_WEIGHTS = {
    "count": 6.0, "code": 2.0, "motion": 3.0, "when": 6.0, "order": 3.0, "first": 2.0, "last": 3.0,
    "appear": 4.0, "leave": 4.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the model is and how long each stage runs.

    Raising ``language_steps`` and ``language_decay`` together prolongs a run that was stopped
    before its learning rate began to decline. ``type_weights`` says how much an answer counts by
    type of question, 1 where nothing is said; ``plate_chance`` and ``code_chance`` are
    ``Recipe``'s; ``text_share``, ``timed_share``, ``dense_weights``, ``stamp_weights`` and
    ``mixtures`` are ``Curriculum``'s. ``look_weight`` is that of looking where an answer is to be
    found; that of times is ``stamp_weights``.
    """

    seed: int = 0
    hidden_size: int = 192
    vision_size: int = 128
    num_layers: int = 6
    num_vision_layers: int = 5
    vision_steps: int = 2600
    vision_decay: int = 1400
    vision_peak: float = 1.5e-3
    vision_batch: int = 32
    language_steps: int = 3450
    language_decay: int = 1900
    language_peak: float = 1.1e-3
    tokens_per_batch: int = 6000
    plate_chance: float = 0.9
    code_chance: float = 0.3
    text_share: float = 0.3
    timed_share: float = 0.7
    look_weight: float = 1.0
    dense_weights: Sequence[tuple[int, float]] = ((0, 0.2), (500, 0.5), (1000, 1.0), (2200, 0.3))
    stamp_weights: Sequence[tuple[int, float]] = ((0, 0.5),)
    type_weights: Mapping[str, float] = field(default_factory=DEFAULT_TYPE_WEIGHTS.copy)
    mixtures: Sequence[tuple[int, Mapping[int, float]]] = DEFAULT_MIXTURES


def load_plan(path: Path) -> Plan:
    """Return the default plan with the fields that a JSON file names replaced.

    Raises:
        ValueError: A field is unknown.
    """
    given: dict[str, Any] = json.loads(path.read_text())
    known = {field.name for field in dataclasses.fields(Plan)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"no such field in a plan: {unknown = } {sorted(known) = }")
    if "mixtures" in given:
        given["mixtures"] = [
            (int(start), {int(frames): float(chance) for frames, chance in mixture.items()})
            for start, mixture in given["mixtures"]
        ]
    for name in ("dense_weights", "stamp_weights"):
        if name in given:
            given[name] = tuple(map(tuple, given[name]))
    return dataclasses.replace(Plan(), **given)
