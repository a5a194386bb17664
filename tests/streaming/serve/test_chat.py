"""What a body may say: nothing is opened, so every refusal is of words alone."""

import difflib
from typing import Any

import pytest

from streaming.flags import change
from streaming.options import Options
from streaming.serve.chat import Chat, client_options, read_chat
from streaming.serve.failures import RequestError
from tests.streaming.serve.conftest import about
from workers.llm.dialogue import Turn

VIDEO = {"type": "video_url", "video_url": {"url": "file-1"}}
SAID = [about("file-1"), {"role": "assistant", "content": "A cat."}]


def read(**body: Any) -> Chat:
    options = change(Options(), {}, source="")
    return read_chat({"messages": [about("file-1")], **body}, options, 4)


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_parts_may_come_in_any_order() -> None:
    texts = [{"type": "text", "text": text} for text in ("What", "is it?")]
    chat = read(messages=[user(texts[0], VIDEO, texts[1])])
    assert (chat.question, chat.clip.addresses) == ("What\nis it?", ("file-1",))


def test_turns_come_before_the_question() -> None:
    system = {"role": "developer", "content": "Be short."}
    chat = read(messages=[system, *SAID, {"role": "user", "content": "Why?"}])
    assert chat.question == "Why?"
    assert chat.question.earlier == (
        Turn(role="system", text="Be short."),
        Turn(role="user", text="What number is shown?"),
        Turn(role="assistant", text="A cat."),
    )


@pytest.mark.parametrize("content", [None, "", " ", []])
def test_what_was_said_before_may_be_blank(content: Any) -> None:
    said = [about("file-1", ""), {"role": "assistant", "content": content}]
    chat = read(messages=[*said, {"role": "user", "content": "Why?"}])
    assert [turn.text.strip() for turn in chat.question.earlier] == ["", ""]
    said[0] = {"role": "system", "content": ""}
    assert read(messages=[said[0], about("file-1")]).question.earlier[0].role == "system"


@pytest.mark.parametrize("role", ["system", "user"])
def test_only_an_answer_may_be_null(role: str) -> None:
    with pytest.raises(RequestError, match=r"messages\[0\]\.content must be a text or a list"):
        read(messages=[{"role": role, "content": None}, about("file-1")])


def test_a_clip_may_be_named_with_every_question() -> None:
    assert read(messages=[*SAID, about("file-1")]).clip.addresses == ("file-1",)


def test_options_come_under_three_names() -> None:
    chat = read(
        max_tokens=7,
        seed=3,
        media_io_kwargs={"video": {"fps": 2}},
        mr_stream={"budget": 9, "pruner": "evs", "timestamps": True},
    )
    options = chat.options
    assert (options.generation.max_new_tokens, options.generation.seed) == (7, 3)
    assert (options.frames.fps, options.frames.num_frames) == (2.0, None)
    assert (options.budget.budget, options.pruning.pruner) == (9, "evs")


def test_what_says_nothing_here_is_taken() -> None:
    chat = read(n=1, top_p=1.0, user="me", tools=[], logit_bias=None, frequency_penalty=0)
    assert chat.options == Options()


@pytest.mark.parametrize("name", ["reasoning_effort", "audio", "prediction", "functions", "n"])
def test_what_is_null_was_not_given(name: str) -> None:
    assert read(**{name: None}).options == Options()


def read_on(server: dict[str, object], **body: Any) -> Options:
    """Return the options of a request to a server with these options of its own."""
    options = change(Options(), server, source="")
    return read_chat({"messages": [about("file-1")], **body}, options, 4).options


def test_without_pruning_the_server_s_budget_does_not_hold() -> None:
    for server in ({"keep_ratio": 0.1}, {"budget": 64}):
        options = read_on(server, mr_stream={"pruner": "none"})
        assert (options.budget.budget, options.budget.keep_ratio) == (None, None)


@pytest.mark.parametrize(
    "body",
    [{"response_format": {"type": "text"}}, {"mr_stream": {"choices": ["a", "b"]}}],
)
def test_a_form_of_the_request_s_goes_before_the_server_s(body: dict[str, Any]) -> None:
    server: dict[str, object] = {"json_schema": '{"type": "integer"}'}
    assert read_on(server).generation.json_schema == '{"type": "integer"}'
    assert read_on(server, **body).generation.json_schema is None


def test_no_client_chooses_how_or_where_the_server_works() -> None:
    assert {"budget", "num_frames", "pruner", "seed"} <= set(client_options())
    assert not {"model", "device", "executor", "bank", "decoder", "host"} & set(client_options())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"tempature": 1}, "unrecognized request argument supplied: tempature; did you"),
    "n": ({"n": 2}, "n is not had"),
    "stop": ({"stop": ["."]}, "stop is not had"),
    "tools": ({"tools": [{"type": "function"}]}, "tools is not had"),
    "an embedding": ({"prompt_embeds": "gANjdG9yY2g="}, "unrecognized request argument"),
    "a template": ({"chat_template": "{{ 1 }}"}, "unrecognized request argument"),
    "loader": ({"media_io_kwargs": {"video": {"max_frames": 9}}}, "max_frames is not taken"),
    "another loader": ({"media_io_kwargs": {"image": {}}}, "media_io_kwargs takes"),
    "processor": ({"mm_processor_kwargs": {}}, "unrecognized request argument"),
    "the server's": ({"mr_stream": {"bank": "/tmp"}}, r"mr_stream\.bank is not taken"),
    "the device": ({"mr_stream": {"device": "cuda"}}, r"mr_stream\.device is not taken"),
    "type": ({"mr_stream": {"budget": "9"}}, "budget must be of type int"),
    "range": ({"mr_stream": {"budget": 0}}, r"mr_stream\.budget 0: must be"),
    "endless": ({"temperature": float("inf")}, "must be a finite number"),
    "rivals": ({"mr_stream": {"fps": 1, "num_frames": 2}}, "not both"),
    "one choice": ({"mr_stream": {"choices": ["a"]}}, "a single choice is none"),
    "choices and a form": (
        {"response_format": {"type": "json_object"}, "mr_stream": {"choices": ["a", "b"]}},
        "give response_format or mr_stream.choices, not both",
    ),
    "no schema": ({"mr_stream": {"json_schema": "seen.json"}}, "not a JSON object"),
    "choices of numbers": ({"mr_stream": {"choices": [1, 2]}}, "must be a list of texts"),
    "progress": ({"mr_stream": {"progress": True}}, "give stream: true"),
    "stream": ({"stream": 1}, "stream must be true or false"),
    "model": ({"model": 5}, "model must be a text"),
    "object": ({"mr_stream": []}, "mr_stream must be an object"),
    "no messages": ({"messages": []}, "must be a list with a user message"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\]\.role"),
    "content": ({"messages": [{"role": "user", "content": 5}]}, "a text or a list of parts"),
    "part": ({"messages": [user({"type": "input_audio"})]}, "type must be one of text"),
    "no url": ({"messages": [user({"type": "video_url"})]}, "video_url must hold a url"),
    "a dict": ({"messages": [user({"type": "video_url", "video_url": {"url": 1}})]}, "url, a text"),
    "pickled": ({"messages": [user({"type": "video", "video": [{}]})]}, "list of addresses"),
    "blank": ({"messages": [user(VIDEO)]}, r"the text of messages\[0\] is empty"),
    "two clips": ({"messages": [user(VIDEO, VIDEO)]}, "a message holds one clip"),
    "another clip": (
        {"messages": [*SAID, about("file-2")]},
        "a conversation is about one clip, and there are several",
    ),
    "the model's clip": (
        {"messages": [about("a"), {"role": "assistant", "content": [VIDEO]}, about("a")]},
        "a clip belongs into a user message",
    ),
    "an answer last": ({"messages": SAID}, "a user message last"),
    "surrogate": ({"messages": [about("file-1", "\ud800")]}, "is not UTF-8"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_taken_is_refused(reason: str) -> None:
    body, words = REFUSED[reason]
    with pytest.raises(RequestError, match=words) as refused:
        read(**body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": "data:video/jpeg;base64,a,b,c,d,e"},
        {"type": "video", "video": list("abcde")},
    ],
)
def test_of_too_many_pictures_no_list_is_made(part: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="at most 4 pictures") as refused:
        read(messages=[user(part)])
    assert refused.value.status == 413


def test_so_many_pictures_are_read() -> None:
    part = {"type": "video_url", "video_url": "data:video/jpeg;base64,a,b,c,d"}
    assert len(read(messages=[user(part, {"type": "text", "text": "?"})]).clip.addresses) == 4


@pytest.mark.parametrize("place", ["body", "mr_stream"])
def test_a_name_without_end_is_neither_compared_nor_repeated(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(difflib, "get_close_matches", None)
    given = {"x" * 10_000: 1}
    with pytest.raises(RequestError, match="xxx") as refused:
        read(**{"body": given, "mr_stream": {"mr_stream": given}}[place])
    assert len(refused.value.body()) < 3000


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(RequestError, match="must be a JSON object"):
        read_chat([], Options(), 4)
