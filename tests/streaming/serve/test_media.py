"""Where clips may come from, and the ways around that which are tried."""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streaming.serve.content import ClipPart
from streaming.serve.download import Fetcher
from streaming.serve.failures import RequestError
from streaming.serve.files import Files
from streaming.serve.media import Located, Media
from streaming.serve.options import MediaOptions
from workers.errors import VideoOpenError, display_name


@pytest.fixture
def files() -> Iterator[Files]:
    files = Files(max_bytes=10_000, max_file_bytes=1000)
    yield files
    files.close()


@pytest.fixture
def locate(files: Files, tmp_path: Path) -> Callable[..., bytes]:
    """Return the content of the clip at an address, with a media folder beside a secret."""
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a b.mp4").write_bytes(b"clip")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp4")

    def read(*addresses: str, pictures: bool = False, **settings: Any) -> bytes:
        options = MediaOptions(**{"media_folder": str(folder), "max_frames": 3, **settings})
        fetcher = Fetcher(allowed=(), max_bytes=1000, seconds=1)
        clip = ClipPart(addresses=addresses, is_pictures=pictures)
        with Media(files, options, fetcher).located(clip) as located:
            return b"".join(Path(path).read_bytes() for path in located.paths)

    return read


def test_clips_come_as_data_and_from_the_folder(
    locate: Callable[..., bytes], tmp_path: Path
) -> None:
    assert locate("data:video/mp4;base64,Y2xpcA==") == b"clip"
    assert locate("data:;base64,Y2xpcA==") == b"clip"
    assert locate(f"file://{tmp_path}/media/a%20b.mp4") == b"clip"
    assert locate("data:image/png;base64,YQ==", "data:image/png;base64,Yg==", pictures=True) == (
        b"ab"
    )


def test_a_path_that_does_not_print_is_not_shown_either() -> None:
    path = "/srv/media/a\tb.mp4"
    located = Located(paths=(path,), is_pictures=False, names={path: "a\tb.mp4"})
    error = VideoOpenError(f"{display_name(path)}: no moov")
    assert located.shown(str(error)) == r"'a\tb.mp4': no moov"
    assert located.shown(f"{path}: no moov") == r"'a\tb.mp4': no moov"


@pytest.mark.parametrize(
    "path",
    [
        "{}/secret.mp4", "{}/media/../secret.mp4", "{}/media/%2e%2e/secret.mp4",
        "{}/media/link.mp4", "{}/media/up/secret.mp4", "{}/media", "{}/media/pipe.mp4",
        "{}/media/missing.mp4", "{}/mediax/a.mp4", "/etc/passwd", "/dev/zero", "/proc/self/environ",
        "{}/media/a%00b.mp4", "media/a.mp4", "", "{}/media/a%20b.mp4?x", "{}/media/" + "x" * 5000,
    ],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_had(
    locate: Callable[..., bytes], tmp_path: Path, path: str
) -> None:
    with pytest.raises(RequestError, match="address is refused") as refused:
        locate("file://" + path.format(tmp_path))
    assert str(tmp_path) not in refused.value.message


def test_another_machine_s_files_are_refused(locate: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="file:///path"):
        locate(f"file://evil.example{tmp_path}/media/a%20b.mp4")


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("file:///etc/passwd", 403, "no files of the server may be named"),
        ("https://a.example/x.mp4", 403, "nothing is fetched here"),
        ("http://a.example/x.mp4", 400, "must be a data: URL"),
        ("s3://bucket/x.mp4", 400, "must be a data: URL"),
        ("rtsp://10.0.0.1/", 400, "must be a data: URL"),
        ("concat:/etc/passwd", 400, "must be a data: URL"),
        ("/etc/passwd", 400, "must be a data: URL"),
        ("file-" + "0" * 32, 404, "no file of this id"),
        ("file-../../etc/passwd", 400, "must be a data: URL"),
    ],
)
def test_by_default_clips_come_as_data_and_uploads_only(
    locate: Callable[..., bytes], address: str, status: int, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        locate(address, media_folder=None)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("data:video/mp4,abc", 400),
        ("data:video/mp4;base64,a*b=", 400),
        ("data:video/mp4;base64,abcde", 400),
        ("data:video/mp4;base64,Y2xp\ncA==", 400),
        ("data:video/mp4;base64,", 400),
        ("data:text/html;base64,Y2xpcA==", 415),
        ("data:application/x-pickle;base64,gASVAAAAAAAu", 415),
        ("data:video/mp4;base64," + base64.b64encode(bytes(1001)).decode(), 413),
        ("data:" + ";x=1" * 10_000 + ";base64,YQ==", 400),
    ],
)
def test_data_that_is_none_is_refused(
    locate: Callable[..., bytes], address: str, status: int
) -> None:
    with pytest.raises(RequestError) as refused:
        locate(address)
    assert refused.value.status == status


def test_what_is_too_large_is_refused_before_it_is_decoded(
    locate: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base64, "b64decode", None)
    with pytest.raises(RequestError, match="at most"):
        locate("data:video/mp4;base64," + "A" * 2000)
    with pytest.raises(RequestError, match="at most 3 pictures"):
        locate(*["data:image/png;base64,YQ=="] * 4, pictures=True)


def test_what_was_not_kept_leaves_nothing(files: Files, locate: Callable[..., bytes]) -> None:
    with pytest.raises(RequestError, match="not valid base64"):
        locate("data:video/mp4;base64," + "A" * 100 + "*")
    assert list(Path(files._folder.name).iterdir()) == []
