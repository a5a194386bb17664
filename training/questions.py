"""Questions about a clip, with answers: each is asked only where its scenes leave one answer."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from training.canvas import ASPECTS
from training.scene import Clip, Scene, Shape

COUNTS = ("zero", "one", "two", "three", "four", "five")
PARTS = ("beginning", "middle", "end")
TYPES = (
    "color", "shape", "count", "number", "code", "side", "height",
    "motion", "order", "when", "first", "last",
)  # fmt: skip
"""``side`` is left or right, ``height`` top or bottom."""
_MARGIN = 0.09
_SLACK = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its answer, and when in the clip the answer is to be seen (fractions)."""

    type: str
    text: str
    answer: str
    start: float
    end: float


def questions_of(clip: Clip) -> list[Question]:
    """Return every question about ``clip`` that has exactly one answer."""
    asked: list[Question] = []
    for ask in (_looks, _count, _plates, _places, _motion, _order, _when):
        asked.extend(ask(clip))
    return asked


def _shown(clip: Clip) -> list[tuple[Scene, Shape]]:
    return [(scene, shape) for scene in clip.scenes for shape in scene.shapes]


def _named_by_color(clip: Clip) -> list[tuple[Scene, Shape]]:
    """Return the shapes that are the only ones of their colour in the clip."""
    shown = _shown(clip)
    times = Counter(shape.color for _, shape in shown)
    return [(scene, shape) for scene, shape in shown if times[shape.color] == 1]


def _ask(type_: str, text: str, answer: str, scene: Scene) -> Question:
    return Question(type=type_, text=text, answer=answer, start=scene.start, end=scene.end)


def _looks(clip: Clip) -> Iterator[Question]:
    shown = _shown(clip)
    kinds = Counter(shape.kind for _, shape in shown)
    for scene, shape in shown:
        if kinds[shape.kind] == 1:
            yield _ask("color", f"what color is the {shape.kind}?", shape.color, scene)
    for scene, shape in _named_by_color(clip):
        yield _ask("shape", f"what shape is the {shape.color} object?", shape.kind, scene)


def _count(clip: Clip) -> Iterator[Question]:
    if len(clip.scenes) == 1:
        scene = clip.scenes[0]
        yield _ask("count", "how many shapes are there?", COUNTS[len(scene.shapes)], scene)


def _plates(clip: Clip) -> Iterator[Question]:
    plates = [(scene, scene.plate) for scene in clip.scenes if scene.plate]
    numbers = [(scene, plate.text) for scene, plate in plates if plate.is_number]
    codes = [(scene, plate.text) for scene, plate in plates if not plate.is_number]
    if len(numbers) == 1:
        yield _ask("number", "what number is shown?", numbers[0][1], numbers[0][0])
    if len(codes) == 1:
        yield _ask("code", "what code is shown?", codes[0][1], codes[0][0])
    if len(numbers) > 1:
        yield _ask("first", "what is the first number?", numbers[0][1], numbers[0][0])
        yield _ask("last", "what is the last number?", numbers[-1][1], numbers[-1][0])


def _places(clip: Clip) -> Iterator[Question]:
    width, height = ASPECTS[clip.aspect]
    for scene, shape in _named_by_color(clip):
        across = _half(shape.x / width, (shape.x + shape.dx) / width)
        down = _half(shape.y / height, (shape.y + shape.dy) / height)
        if across is not None:
            text = f"is the {shape.color} object on the left or right?"
            yield _ask("side", text, ("left", "right")[across], scene)
        if down is not None:
            text = f"is the {shape.color} object at the top or bottom?"
            yield _ask("height", text, ("top", "bottom")[down], scene)


def _half(begin: float, end: float) -> int | None:
    """Return 0 or 1 where a path stays clearly in the first or second half, else None."""
    if max(begin, end) < 0.5 - _MARGIN:
        return 0
    return 1 if min(begin, end) > 0.5 + _MARGIN else None


def _motion(clip: Clip) -> Iterator[Question]:
    for scene, shape in _named_by_color(clip):
        if shape.direction:
            text = f"which way does the {shape.color} object move?"
            yield _ask("motion", text, shape.direction, scene)


def _order(clip: Clip) -> Iterator[Question]:
    named = _named_by_color(clip)
    for index, (early, one) in enumerate(named):
        for late, other in named[index + 1 :]:
            if early is late:
                continue
            # The order in which the two are named is settled by their names: it tells nothing.
            first, second = sorted((one.color, other.color))
            text = f"which came first, the {first} or the {second} object?"
            yield Question(
                type="order", text=text, answer=one.color, start=early.start, end=late.end
            )


def _when(clip: Clip) -> Iterator[Question]:
    for scene, shape in _named_by_color(clip):
        for index, part in enumerate(PARTS):
            inside = scene.start > index / 3 - _SLACK and scene.end < (index + 1) / 3 + _SLACK
            if inside and clip.num_frames >= 3:
                text = f"in which part of the clip is the {shape.color} object?"
                yield _ask("when", text, part, scene)
