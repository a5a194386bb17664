"""Many clips, many questions, failures and impatient readers: every answer is the same as alone."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from tests.workers.llm.visual import (
    GREEDY,
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.question import Question
from workers.visual import VisualSequence

HOT = SamplingOptions(max_new_tokens=12, temperature=1.0, seed=5)
LONG = SamplingOptions(max_new_tokens=1_500)


@pytest.fixture(scope="module")
def clips(checkpoint: Path) -> list[VisualSequence]:
    return [show_frames(checkpoint, random_frames(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def alone(checkpoint: Path, clips: list[VisualSequence]) -> dict[tuple[int, str], list[int]]:
    """What a model that was never asked anything else answers."""
    return {
        (number, question): Asker(checkpoint).ask(clip, question)
        for number, clip in enumerate(clips)
        for question in QUESTIONS
    }


@pytest.fixture
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


def endless(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer end before its last token."""
    config = asker.model._decoder._model.generation_config
    monkeypatch.setattr(config, "eos_token_id", None)


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_clips_take_turns(
    checkpoint: Path, clips: list[VisualSequence], alone: Any, room: int
) -> None:
    asker = Asker(checkpoint)
    asker.ask(clips[0], QUESTIONS[0])
    length = asker.model._prefixes.num_tokens
    asker = Asker(checkpoint, cache_tokens=room * length)
    for question in (*QUESTIONS, *QUESTIONS):
        for number, clip in enumerate(clips):
            assert asker.ask(clip, question) == alone[number, question]
    assert len(asker.model._prefixes) == max(1, room)


def test_a_late_question_is_about_the_clip_it_names(
    asker: Asker, clips: list[VisualSequence], alone: Any
) -> None:
    for number in (0, 1, 0):
        assert asker.ask(clips[number], QUESTIONS[0]) == alone[number, QUESTIONS[0]]
    assert alone[0, QUESTIONS[0]] != alone[1, QUESTIONS[0]]


def test_a_clip_in_the_cache_is_not_read_again(
    asker: Asker, clips: list[VisualSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    prefill = asker.model._decoder.prefill

    def spy(visual: VisualSequence, prompt: Any) -> Any:
        read.append(visual.visual_id)
        return prefill(visual, prompt)

    monkeypatch.setattr(asker.model._decoder, "prefill", spy)
    for question in QUESTIONS:
        for clip in clips[:2]:
            asker.ask(clip, question)
    assert read == [clip.visual_id for clip in clips[:2]]


def in_a_layer(asker: Asker, num_passes: int) -> Callable[[], None]:
    """Fail in layer 2, once a number of passes have gone through it."""
    layer = asker.model._decoder._model.model.layers[2]
    passed: list[None] = []

    def fail(*args: Any) -> None:
        passed.append(None)
        if len(passed) > num_passes:
            raise torch.OutOfMemoryError("pretended")

    handle = layer.register_forward_pre_hook(fail)
    return lambda: handle.remove()


def before_the_first_layer(asker: Asker, _: int) -> Callable[[], None]:
    net = asker.model._decoder._model

    def fail(**options: Any) -> None:
        raise torch.OutOfMemoryError("pretended")

    net.generate = fail
    return lambda: delattr(net, "generate")


@pytest.mark.parametrize("prune_layer", [None, 2])
@pytest.mark.parametrize(
    ("place", "num_passes"), [(in_a_layer, 0), (in_a_layer, 3), (before_the_first_layer, 0)]
)
def test_a_failure_leaves_no_trace(
    checkpoint: Path,
    asker: Asker,
    clips: list[VisualSequence],
    place: Callable[..., Callable[[], None]],
    num_passes: int,
    prune_layer: int | None,
) -> None:
    clip, other = (identified(each, prune_layer=prune_layer, num_keep=20) for each in clips[:2])
    expected = [Asker(checkpoint).ask(clip, question) for question in QUESTIONS]
    asker.ask(other, QUESTIONS[0])
    assert asker.ask(clip, QUESTIONS[0]) == expected[0]
    num_held = len(asker.model._prefixes)
    mend = place(asker, num_passes)
    with pytest.raises(torch.OutOfMemoryError, match="pretended"):
        asker.ask(clip, QUESTIONS[0])
    mend()
    assert len(asker.model._prefixes) == num_held
    assert [asker.ask(clip, question) for question in QUESTIONS] == expected


@pytest.mark.parametrize("num_threads", [2, 10])
def test_questions_asked_at_once_are_answered_one_after_another(
    asker: Asker, clips: list[VisualSequence], alone: Any, num_threads: int
) -> None:
    cases = [(number % 3, QUESTIONS[number % 2]) for number in range(num_threads)]
    hot = asker.ask(clips[0], QUESTIONS[0], sampling=HOT)
    answers: dict[int, Any] = {}
    together = threading.Barrier(num_threads)

    def ask(place: int) -> None:
        number, question = cases[place]
        together.wait(timeout=60)
        drawn = asker.ask(clips[0], QUESTIONS[0], sampling=HOT)
        answers[place] = asker.ask(clips[number], question), drawn

    threads = [Thread(target=ask, args=(place,)) for place in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert answers == {place: (alone[case], hot) for place, case in enumerate(cases)}


def test_an_iterator_that_nobody_reads_holds_nobody_up(
    asker: Asker, clips: list[VisualSequence], alone: Any
) -> None:
    held: list[Iterator[Any]] = [asker.pieces(clips[0], question) for question in QUESTIONS]
    for pieces in held[:2]:
        next(pieces)
    assert asker.ask(clips[1], QUESTIONS[0]) == alone[1, QUESTIONS[0]]
    for pieces, question in zip(held, QUESTIONS, strict=True):
        *_, answer = pieces
        assert isinstance(answer, GeneratedAnswer)
        assert list(answer.token_ids) == alone[0, question]


@pytest.mark.parametrize("leave", [lambda pieces: pieces.close(), lambda pieces: None])
def test_an_abandoned_answer_ends_at_its_next_token(
    asker: Asker,
    clips: list[VisualSequence],
    alone: Any,
    monkeypatch: pytest.MonkeyPatch,
    leave: Callable[[Any], None],
) -> None:
    num_passes = 0

    def count(*args: Any) -> None:
        nonlocal num_passes
        num_passes += 1

    net = asker.model._decoder._model
    with monkeypatch.context() as patch:
        endless(asker, patch)
        handle = net.register_forward_pre_hook(count)
        pieces = asker.pieces(clips[0], QUESTIONS[0], LONG)
        next(pieces)
        leave(pieces)
        del pieces
        waiting = asker.pieces(clips[0], QUESTIONS[1], SamplingOptions(max_new_tokens=1))
        list(waiting)  # answered only once the other one has ended
        handle.remove()
    assert num_passes < 750
    assert asker.ask(clips[0], QUESTIONS[1]) == alone[0, QUESTIONS[1]]


def test_a_question_given_up_in_the_queue_is_never_read(
    asker: Asker, clips: list[VisualSequence]
) -> None:
    prompt = asker.prompt(clips[0], QUESTIONS[0])
    question = Question(clips[0], prompt, GREEDY)
    question.stop.set()
    asker.model._waiting.append(question)
    asker.model._serve()
    assert not asker.model._waiting
    assert len(asker.model._prefixes) == 0


def test_a_model_that_nobody_uses_goes(checkpoint: Path, clips: list[VisualSequence]) -> None:
    others = set(threading.enumerate())
    asker = Asker(checkpoint)
    (thread,) = set(threading.enumerate()) - others
    asker.ask(clips[0], QUESTIONS[0])
    net = weakref.ref(asker.model._decoder._model)
    del asker
    gc.collect()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert net() is None
