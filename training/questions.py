"""Questions about a clip, with answers: each is asked only where its scenes leave one answer."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from training.canvas import ASPECTS
from training.scene import DIRECTIONS, Clip, Scene, Shape

COUNTS = ("zero", "one", "two", "three", "four", "five")
PARTS = ("beginning", "middle", "end")
TYPES = (
    "color", "shape", "count", "number", "code", "side", "height",
    "motion", "order", "when", "first", "last", "appear", "leave",
)  # fmt: skip
"""``side`` is left or right, ``height`` top or bottom."""
TIMED = ("appear", "leave")
"""Types answered in seconds, which takes timestamps in the prompt."""
_MARGIN = 0.09
_SLACK = 0.12
_CLEAR = 0.04
"""Of a clip: how far from the next third the middle is of what is said to lie in one."""
_ROUNDING = 0.1
"""Seconds: a tenth of a second is shown, of the answer and of the frames."""


FEWEST_TIMED = 4
"""Frames of a clip whose times are asked for: in shorter ones a guess is within tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its answer, and when in the clip the answer is to be seen (fractions).

    ``scene`` is the number of the scene that shows the answer, ``item`` that of the shape in it
    which the answer is about, None where it is about none. A number within
    ``tolerance`` of the answer is right too.
    """

    type: str
    text: str
    answer: str
    start: float
    end: float
    scene: int
    item: int | None = None
    tolerance: float = 0.0


Named = tuple[int, int, Scene, Shape]
"""Numbers of a scene and of a shape in it, the scene and the shape."""


def questions_of(
    clip: Clip, *, timed: bool = False, fewest_timed: int = FEWEST_TIMED
) -> list[Question]:
    """Return every question about ``clip`` that has exactly one answer.

    Args:
        clip: What is shown.
        timed: Ask for seconds too, which takes timestamps in the prompt.
        fewest_timed: Sampled frames from which on they are asked for.
    """
    asks = [_looks, _count, _plates, _places, _motion, _order, _when]
    if timed and clip.num_frames >= fewest_timed:
        asks.append(_times)
    return [question for ask in asks for question in ask(clip)]


def _shown(clip: Clip) -> list[Named]:
    return [
        (number, item, scene, shape)
        for number, scene in enumerate(clip.scenes)
        for item, shape in enumerate(scene.shapes)
    ]


def _named_by_color(clip: Clip) -> list[Named]:
    """Return the shapes that are the only ones of their colour in the clip."""
    shown = _shown(clip)
    times = Counter(shape.color for *_, shape in shown)
    return [named for named in shown if times[named[-1].color] == 1]


def _ask(type_: str, text: str, answer: str, named: Named) -> Question:
    number, item, scene, _ = named
    return Question(
        type=type_, text=text, answer=answer, start=scene.start, end=scene.end, scene=number,
        item=item,
    )  # fmt: skip


def _looks(clip: Clip) -> Iterator[Question]:
    shown = _shown(clip)
    kinds = Counter(shape.kind for *_, shape in shown)
    for named in shown:
        kind = named[-1].kind
        if kinds[kind] == 1:
            yield _ask("color", f"what color is the {kind}?", named[-1].color, named)
    for named in _named_by_color(clip):
        color = named[-1].color
        yield _ask("shape", f"what shape is the {color} object?", named[-1].kind, named)


def _count(clip: Clip) -> Iterator[Question]:
    if len(clip.scenes) == 1:
        answer = COUNTS[len(clip.scenes[0].shapes)]
        yield Question(
            type="count", text="how many shapes are there?", answer=answer, start=0.0, end=1.0,
            scene=0,
        )  # fmt: skip


def _plates(clip: Clip) -> Iterator[Question]:
    plates = [(scene, scene.plate) for scene in clip.shown() if scene.plate]
    numbers = [(scene, plate.text) for scene, plate in plates if plate.is_number]
    codes = [(scene, plate.text) for scene, plate in plates if not plate.is_number]

    def ask(type_: str, text: str, read: tuple[Scene, str]) -> Question:
        scene, answer = read
        return Question(
            type=type_, text=text, answer=answer, start=scene.start, end=scene.end,
            scene=clip.scenes.index(scene),
        )  # fmt: skip

    if len(set(numbers)) == 1:
        yield ask("number", "what number is shown?", numbers[0])
    if len(set(codes)) == 1:
        yield ask("code", "what code is shown?", codes[0])
    if len(set(numbers)) > 1:
        yield ask("first", "what is the first number?", numbers[0])
        yield ask("last", "what is the last number?", numbers[-1])


def _places(clip: Clip) -> Iterator[Question]:
    for named in _named_by_color(clip):
        color = named[-1].color
        across, down = _halves(clip, named)
        if across is not None:
            text = f"is the {color} object on the left or right?"
            yield _ask("side", text, ("left", "right")[across], named)
        if down is not None:
            text = f"is the {color} object at the top or bottom?"
            yield _ask("height", text, ("top", "bottom")[down], named)


def _halves(clip: Clip, named: Named) -> tuple[int | None, int | None]:
    """Return the half, across and down, in which a shape is seen all the time, None for neither."""
    _, _, scene, shape = named
    seen = [scene.look(shape, moment) for moment in _looks_at(scene)]
    width, height = ASPECTS[clip.aspect]
    return _half([look.x / width for look in seen]), _half([look.y / height for look in seen])


def _looks_at(scene: Scene) -> list[float]:
    """Return moments from the beginning to the end of a scene, none of them between its shots."""
    if not scene.camera:
        return [scene.start, scene.end]
    return [
        start + share * (end - start)
        for start, end in scene.shots
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]


def _half(places: list[float]) -> int | None:
    """Return 0 or 1 where all places are clearly in the first or second half, else None."""
    if max(places) < 0.5 - _MARGIN:
        return 0
    return 1 if min(places) > 0.5 + _MARGIN else None


def _motion(clip: Clip) -> Iterator[Question]:
    for named in _named_by_color(clip):
        _, _, scene, shape = named
        direction = scene.seen_direction(shape, ASPECTS[clip.aspect])
        if direction in DIRECTIONS:
            text = f"which way does the {shape.color} object move?"
            yield _ask("motion", text, direction, named)


def _order(clip: Clip) -> Iterator[Question]:
    named = _named_by_color(clip)
    for index, (number, item, early, one) in enumerate(named):
        for _, _, late, other in named[index + 1 :]:
            if early is late:
                continue
            # The order in which the two are named is settled by their names: it tells nothing.
            first, second = sorted((one.color, other.color))
            text = f"which came first, the {first} or the {second} object?"
            yield Question(
                type="order", text=text, answer=one.color, start=early.start, end=late.end,
                scene=number, item=item,
            )  # fmt: skip


def _when(clip: Clip) -> Iterator[Question]:
    for named in _named_by_color(clip):
        _, _, scene, shape = named
        middle = (scene.start + scene.end) / 2
        third = int(middle * 3)
        is_clear = min(abs(middle - 1 / 3), abs(middle - 2 / 3)) > _CLEAR
        is_inside = scene.start > third / 3 - _SLACK and scene.end < (third + 1) / 3 + _SLACK
        if is_clear and is_inside and clip.num_frames >= 3:
            text = f"in which part of the clip is the {shape.color} object?"
            yield _ask("when", text, PARTS[third], named)


def _times(clip: Clip) -> Iterator[Question]:
    tolerance = round(clip.duration_seconds / clip.num_frames + _ROUNDING, 2)
    for number, item, scene, shape in _named_by_color(clip):
        asked = (
            ("appear", f"when does the {shape.color} object appear?", 0, 0),
            ("leave", f"when is the {shape.color} object last seen?", -1, 1),
        )
        for type_, text, shot, end in asked:
            moment = scene.shots[shot][end]
            if 0 < moment < 1:
                yield Question(
                    type=type_, text=text, answer=f"{moment * clip.duration_seconds:.1f}",
                    start=scene.shots[shot][0], end=scene.shots[shot][1], scene=number, item=item,
                    tolerance=tolerance,
                )  # fmt: skip
