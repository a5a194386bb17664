"""Where the options of an evaluation come from: ``--model_args``, then the task."""

import re
from pathlib import Path
from typing import Any

import pytest

from streaming.flags import change
from streaming.lmms_eval.requests import (
    EvalRequest,
    read_model_args,
    read_request,
    unknown_settings,
)
from streaming.options import Options
from workers.errors import InputError


def changed(**values: Any) -> Options:
    return change(Options(), values, source="the test")


OPTIONS = changed(executor="local", num_frames=4, max_new_tokens=7)


def read(options: Options = OPTIONS, **generation: Any) -> EvalRequest:
    content = [{"type": "video", "url": "clip.mp4"}, {"type": "text", "text": "What is this?"}]
    return read_request([{"role": "user", "content": content}], generation, options)


def test_model_args_are_the_options_by_name() -> None:
    given = {
        "model": "some/checkpoint", "keep_ratio": 0.1, "num_frames": 8, "headroom": 2,
        "novelty": False, "timestamps": True, "position_ids": "original",
    }  # fmt: skip
    assert read_model_args(given) == changed(
        model="some/checkpoint",
        keep_ratio=0.1,
        num_frames=8,
        headroom=2.0,
        novelty=False,
        timestamps=True,
        position_ids="original",
    )
    assert read_model_args({}) == Options()


def test_model_args_may_name_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("budget: 50\nnovelty: false\n")
    options = read_model_args({"config": str(path), "budget": 60, "novelty": True})
    assert options == changed(budget=60, novelty=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bugdet": 5}, "unrecognized arguments: --bugdet=5; did you mean --budget?"),
        ({"novlty": True}, "unrecognized arguments: --novlty; did you mean --novelty?"),
        ({"budget": 4.5}, "argument --budget: invalid int value: '4.5'"),
        ({"budget": True}, "argument --budget: expected one argument"),
        ({"executor": "loca"}, "argument --executor: invalid choice: 'loca'"),
        ({"keep_ratio": 1.5}, "--keep-ratio 1.5: must be above 0 and at most 1"),
        ({"budget": 5, "keep_ratio": 0.1}, "give --budget or --keep-ratio, not both"),
    ],
)
def test_wrong_model_args_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(f"--model_args: {message}")):
        read_model_args(given)


@pytest.mark.parametrize(
    ("generation", "changes"),
    [
        ({}, {}),
        ({"max_new_tokens": 3}, {"max_new_tokens": 3}),
        ({"max_new_tokens": None, "temperature": None, "top_p": None, "num_beams": 1}, {}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 0.5, "do_sample": False}, {}),
        ({"temperature": 0, "do_sample": True}, {}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"top_p": 0.3, "top_k": 4, "do_sample": False}, {}),
    ],
)
def test_the_generation_options_of_the_task(
    generation: dict[str, Any], changes: dict[str, Any]
) -> None:
    settings = {"num_frames": 4, "max_new_tokens": 7, "executor": "local"} | changes
    assert read(**generation).options == changed(**settings)


def test_the_temperature_of_the_run_serves_where_the_task_names_none() -> None:
    options = changed(temperature=0.7)
    assert read(options=options, do_sample=True).options.generation.temperature == 0.7
    assert read(options=options).options.generation.temperature == 0.7
    assert read(options=options, do_sample=False).options.generation.temperature == 0


@pytest.mark.parametrize(
    "generation",
    [
        {"num_beams": 4},
        {"repetition_penalty": 1.2},
        {"top_p": 0.9, "temperature": 0.5},
        {"top_k": 1, "do_sample": True},
    ],
)
def test_generation_options_that_would_be_dropped_are_refused(generation: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"the generation option .* is not supported"):
        read(**generation)


def test_options_of_other_models_are_told_apart() -> None:
    generation = {"max_new_tokens": 1, "top_p": 1, "image_aspect_ratio": "pad", "max_frames": 3}
    assert unknown_settings(generation) == ["image_aspect_ratio", "max_frames"]


@pytest.mark.parametrize(
    ("until", "answer"),
    [
        (None, "one. two\n\nthree"),
        ("two", "one."),
        (["three", "\n\n"], "one. two"),
        (["", "ASSISTANT:"], "one. two\n\nthree"),
    ],
)
def test_an_answer_ends_where_the_task_says(until: Any, answer: str) -> None:
    assert read(until=until).cut_answer("\n\n one. two\n\nthree ") == answer
