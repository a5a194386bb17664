"""The body that opens a stream."""

from typing import Any

import pytest

from streaming.flags import change
from streaming.options import Options
from streaming.serve.failures import RequestError
from streaming.serve.streams.request import StreamRequest, read_stream
from streaming.watch.standing import StandingQuestion

SERVER = change(
    Options(),
    {"num_frames": 9, "bank": "x", "budget": 300, "clips_in_flight": 8, "temperature": 0.5},
    source="the test",
)


def read(**body: Any) -> StreamRequest:
    return read_stream({"url": "rtsp://camera/1", **body}, SERVER)


def test_what_is_not_said_is_the_servers_or_that_of_watch() -> None:
    request = read()
    options = request.options
    assert (request.name, request.questions) == (None, ())
    assert (options.frames.num_frames, options.frames.fps, options.store.bank) == (None, 1.0, None)
    assert (options.budget.budget, options.generation.temperature) == (300, 0.5)
    assert (options.source.window, options.source.speed, options.source.give_up) == (32, 1.0, 60.0)


def test_options_are_those_of_watch() -> None:
    ours = {"fps": 2, "budget": 64, "pruner": "gprune", "window": 8, "speed": 0, "silence": 3}
    options = read(mr_stream=ours).options
    assert (options.frames.fps, options.budget.budget, options.pruning.pruner) == (2, 64, "gprune")
    assert (options.source.window, options.source.speed, options.source.silence) == (8, 0, 3)


def test_questions_are_texts_or_say_when_they_are_asked() -> None:
    whole = {"question": "door?", "choices": ["yes", "no"], "every": 5, "on_change": True}
    assert read(questions=["what?", whole, {"question": "why?", "on_change": 3}]).questions == (
        StandingQuestion(text="what?"),
        StandingQuestion(text="door?", choices=("yes", "no"), every_seconds=5.0, confirm=2),
        StandingQuestion(text="why?", confirm=3),
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"ulr": "x"}, "ulr is not taken; did you mean url?"),
        ({"url": None}, "url must be the address of a source"),
        ({"url": ["rtsp://camera/1"]}, "url must be the address"),
        ({"name": "two\nlines"}, "name must be a text of one line"),
        ({"name": "x" * 101}, "name may have at most 100 letters"),
        ({"mr_stream": []}, "mr_stream must be an object"),
        ({"mr_stream": {"windows": 3}}, "mr_stream.windows is not taken.*did you mean window?"),
        ({"mr_stream": {"num_frames": 3}}, "mr_stream.num_frames is not taken: it is for clips w"),
        ({"mr_stream": {"bank": "/etc"}}, "mr_stream.bank is not taken"),
        ({"mr_stream": {"executor": "ray"}}, "mr_stream.executor is not taken"),
        ({"mr_stream": {"window": 10**9}}, "mr_stream.window 1000000000: must be at least 2 and a"),
        ({"mr_stream": {"give_up": float("inf")}}, "mr_stream.give_up inf: must be a finite"),
        ({"mr_stream": {"budget": "64"}}, "budget must be of type int"),
        ({"questions": "what?"}, "questions must be a list of at most 16"),
        ({"questions": ["what?"] * 17}, "questions must be a list of at most 16"),
        ({"questions": [" "]}, r"the text of questions\[0\] is empty"),
        ({"questions": [{"every": 3}]}, r"questions\[0\] must be a text, or an object with a que"),
        ({"questions": [{"question": "?", "evry": 3}]}, "evry is not taken; did you mean every?"),
        ({"questions": [{"question": "?", "every": 1e-9}]}, "every must be a number of seconds"),
        ({"questions": [{"question": "?", "every": float("nan")}]}, "every must be a number"),
        ({"questions": [{"question": "?", "every": True}]}, "every must be a number"),
        ({"questions": [{"question": "?", "on_change": 0}]}, "on_change must be true or how"),
        ({"questions": [{"question": "?", "choices": ["a"]}]}, "a single choice is none"),
        ({"questions": [{"question": "?", "choices": [1, 2]}]}, "choices must be a list of texts"),
    ],
)
def test_what_is_no_stream_is_refused_in_a_line(body: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        read(**body)
    assert refused.value.status == 400
    assert "\n" not in refused.value.message
