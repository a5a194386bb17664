"""Which addresses may be opened, and the ways around that which are tried."""

import pytest

from streaming.flags import change
from streaming.serve.failures import RequestError
from streaming.serve.options import ServerOptions
from streaming.serve.streams.addresses import AllowedSources
from workers.errors import InputError

ALLOWED = AllowedSources(
    "rtsp://viewer:pa%20ss@camera:8554/live, https://cdn.example/public/, "
    "rtsp://10.0.0.5/real?channel=1&key=k3y,http://relay.example"
)

OPENED = {
    "rtsp://camera:8554/live": "rtsp://viewer:pa%20ss@camera:8554/live",
    "RTSP://CAMERA:8554/live/door": "rtsp://viewer:pa%20ss@camera:8554/live/door",
    "rtsp://me:mine@camera:8554/live": "rtsp://me:mine@camera:8554/live",
    "https://cdn.example/public/a/b.m3u8": "https://cdn.example/public/a/b.m3u8",
    "https://cdn.example:443/public/a%20b.ts": "https://cdn.example/public/a%20b.ts",
    "rtsp://10.0.0.5:554/real?channel=1&key=k3y": "rtsp://10.0.0.5/real?channel=1&key=k3y",
    "http://relay.example": "http://relay.example",
    "http://relay.example/any/thing": "http://relay.example/any/thing",
}


@pytest.mark.parametrize("asked", OPENED)
def test_what_was_named_is_opened_and_shown_without_what_is_secret(asked: str) -> None:
    opened, shown = ALLOWED.admit(asked)
    assert opened == OPENED[asked]
    for secret in ("viewer", "pa%20ss", "mine", "@", "k3y", "?"):
        assert secret not in shown


@pytest.mark.parametrize(
    "asked",
    [
        # another place
        "rtsp://camera/live", "rtsps://camera:8554/live", "http://camera:8554/live",
        "rtsp://camera:8554/", "rtsp://camera:8554", "rtsp://camera:8554/live2",
        "rtsp://camera:8554/liv", "rtsp://camera:8554/LIVE", "rtsp://camera.example:8554/live",
        "https://cdn.example/public", "https://cdn.example/publicx/a", "https://cdn.example/",
        "https://cdn.example.evil.example/public/a", "https://cdn.example./public/a",
        "http://169.254.169.254/latest/meta-data", "http://relay.example:81/",
        # a way up
        "https://cdn.example/public/../secret", "https://cdn.example/public/%2e%2e/secret",
        "https://cdn.example/public/%252e%252e/secret", "https://cdn.example/public/..;/secret",
        "https://cdn.example/public/..%2fsecret", "https://cdn.example/public/a%5c..%5csecret",
        "https://cdn.example/public//secret", "https://cdn.example/public/./a",
        "https://cdn.example/public/%0d%0aHost:%20x", "https://cdn.example/public/a%00b",
        # another host for another reader
        "https://cdn.example@evil.example/public/", "https://evil.example#@cdn.example/public/",
        "https://evil.example\\@cdn.example/public/", "https://a@b@cdn.example/public/a",
        "https://cdn.example/public/@evil.example", "https://[::1]/public/", "https:///public/",
        "https://cdn.example:99999/public/", "https://cdn.example:x/public/", "https://@/",
        "https://cdn.example /public/", "https://cdn.example\t/public/", "https://c\u0501n/public/",
        # a query that was not named
        "https://cdn.example/public/a?to=http://10.0.0.1/", "rtsp://10.0.0.5/real",
        "rtsp://10.0.0.5/real?channel=2&key=k3y", "rtsp://10.0.0.5/real/x?channel=1&key=k3y",
        "http://relay.example/a#b",
        # what FFmpeg would open
        "concat:a|b", "file:///etc/passwd", "hls+http://relay.example/", "tcp://relay.example",
        "/etc/passwd", "-", "", "subfile,,start,0,end,9,,:/etc/passwd", "http:relay.example",
        "http://relay.example/" + "a" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_not_repeated(asked: str) -> None:
    with pytest.raises(RequestError, match=r"^the stream's address (is|has)") as refused:
        ALLOWED.admit(asked)
    assert (refused.value.status, refused.value.code) == (403, "source_not_allowed")
    assert len(asked) < 2 or asked not in refused.value.message


def test_by_default_nothing_is_opened() -> None:
    with pytest.raises(RequestError, match="not among those"):
        AllowedSources(None).admit("rtsp://camera/1")


@pytest.mark.parametrize(
    "entry", ["ftp://user:secret@host/", "user:secret@host", "rtsp://u:secret@host/a/../b", "x"]
)
def test_an_entry_that_is_none_is_named_by_its_number_alone(entry: str) -> None:
    with pytest.raises(InputError, match=r"^the test: --allow-stream: address 2 \w+") as refused:
        change(ServerOptions(), {"allow_stream": f"rtsp://a/, {entry}"}, source="the test")
    assert "secret" not in str(refused.value)
