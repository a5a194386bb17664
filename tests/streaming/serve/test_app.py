"""The API, asked by the clients that people have."""

from pathlib import Path

import openai

from tests.streaming.serve.conftest import Running, about, data_url


def test_the_client_of_openai_gets_an_answer(client: openai.OpenAI, video: Path) -> None:
    messages = [about(data_url(video.read_bytes()))]
    whole = client.chat.completions.create(model="embedded", messages=messages)
    pieces = client.chat.completions.create(
        model="embedded", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(pieces)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == whole.choices[0].message.content != ""
    assert whole.usage.prompt_tokens_details.video_tokens == 128
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_x(server: Running, uploaded: str) -> None:
    r = server.chat(about(uploaded), mr_stream={"evidence": True, "budget": 64})
    print(str(r.json())[:3000])
    assert r.status_code == 200
