import io
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pruner.layout import FrameLayout
from streaming.report.page import grid_area, write_report
from streaming.result import Answer
from workers.errors import OutputError
from workers.vision.geometry import DEFAULT_PINPOINTS, Fit, TileGeometry
from workers.visual import KeptFrame


class Page(HTMLParser):
    """The attributes of every element by tag, and the text between the tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: defaultdict[str, list[dict[str, str | None]]] = defaultdict(list)
        self.pieces: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag].append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def paths(self, kind: str) -> list[str]:
        """Path data of the overlays of one kind: base, then grid, of each frame."""
        marked = [path for path in self.elements["path"] if kind in (path["class"] or "").split()]
        return [path["d"] or "" for path in marked]


def jpeg(width: int = 32, height: int = 18) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


def selection(index: int, keep_ratio: float, rows: int = 27, columns: int = 48) -> KeptFrame:
    num_tokens = 576 + rows * (columns + 1)
    kept = np.random.default_rng(index).random(num_tokens) < keep_ratio
    return KeptFrame(
        frame_index=index,
        pts_seconds=3723.0 + index * 0.5,
        layout=FrameLayout(num_base=576, rows=rows, columns=columns),
        keep_indices=np.flatnonzero(kept).astype(np.int64),
        num_timestamp_tokens=6,
        base_informativeness=21.25,
        grid_informativeness=18.75,
        novelty=1.0,
        thumbnail_jpeg=jpeg(),
    )


def answer(*frames: KeptFrame) -> Answer:
    return Answer(
        video="/clips/pancake.mkv",
        question="What is cooked?",
        answer="A pancake.",
        model="tiny-llava",
        budget=4096,
        num_unpruned_tokens=12345,
        num_entering_tokens=sum(frame.num_visual_tokens for frame in frames),
        num_text_tokens=43,
        num_answer_tokens=5,
        num_tiles=5,
        num_encoded_tiles=5,
        frames=frames,
        seconds={"decode": 0.5, "generate": 1.25},
        elapsed_seconds=2.0,
        peak_memory_bytes={"driver": 300 << 20, "language": 3 << 30},
        warnings=(),
        config={"sampling": {"fps": 1.0}, "executor": "local"},
    )


def report(tmp_path: Path, *answers: Answer) -> str:
    path = tmp_path / "out.html"
    write_report(path, answers)
    return path.read_text(encoding="utf-8")


def lit_cells(veil: str) -> set[tuple[int, int]]:
    """(row, column) of every hole in the veil, whose first loop is the picture itself."""
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", veil.partition("z")[2])
    return {(int(y), int(x) + i) for x, y, length in runs for i in range(int(length))}


def enclosed_cells(border: str) -> set[tuple[int, int]]:
    """(row, column) of every cell with an odd number of upright border lines to its left."""
    inside = np.zeros((64, 64), dtype=bool)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", border):
        inside[int(y) : int(y) + int(length), int(x) :] ^= True
    return {(row, column) for row, column in np.argwhere(inside).tolist()}


def expected_cells(frame: KeptFrame) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Base and grid cells by definition, one index at a time."""
    keep = frame.keep_indices.tolist()
    base = {divmod(index, 24) for index in keep if index < 576}
    lines = {divmod(index - 576, frame.layout.columns + 1) for index in keep if index >= 576}
    return base, {(row, column) for row, column in lines if column < frame.layout.columns}


@pytest.mark.parametrize("keep_ratio", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_the_lit_cells_are_the_kept_tokens(tmp_path: Path, keep_ratio: float) -> None:
    frames = [selection(0, keep_ratio), selection(1, keep_ratio, rows=48, columns=20)]
    page = Page(report(tmp_path, answer(*frames)))
    expected = [cells for frame in frames for cells in expected_cells(frame)]
    assert [lit_cells(veil) for veil in page.paths("veil")] == expected
    assert [enclosed_cells(border) for border in page.paths("border")] == expected


def test_the_veil_covers_the_whole_picture_and_scales_to_it(tmp_path: Path) -> None:
    frame = replace(selection(0, 0.1), thumbnail_jpeg=jpeg(480, 270))
    page = Page(report(tmp_path, answer(frame)))
    assert [veil.partition("z")[0] for veil in page.paths("veil")] == [
        "M0 0h24v24h-24",
        "M0 0h48v27h-48",
    ]
    assert [svg["viewbox"] for svg in page.elements["svg"]] == ["0 0 480 270"] * 2
    scales = [group["transform"] for group in page.elements["g"]]
    assert scales == ["scale(20 11.25)", "scale(10 10)"]


@pytest.mark.parametrize(
    ("fit", "veil", "transform"),
    [
        ("crop", "M-10 0h44v24h-44", "translate(100 0) scale(10 10)"),
        ("pad", "M0 5.45455h24v13.0909h-24", "translate(0 -100) scale(18.3333 18.3333)"),
    ],
)
def test_base_cells_lie_where_the_model_sees_the_picture(
    tmp_path: Path, fit: Fit, veil: str, transform: str
) -> None:
    frame = replace(selection(0, 0.1, rows=0, columns=0), thumbnail_jpeg=jpeg(440, 240))
    page = Page(report(tmp_path, replace(answer(frame), fit=fit)))
    assert [path.partition("z")[0] for path in page.paths("veil")] == [veil]
    assert [group["transform"] for group in page.elements["g"]] == [transform]


@pytest.mark.parametrize(
    "size", [(360, 640), (640, 360), (240, 440), (480, 640), (672, 672), (300, 1900), (37, 500)]
)
def test_grid_cells_lie_where_tiles_have_the_picture(size: tuple[int, int]) -> None:
    tiles = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
    geometry = tiles.frame(*size)
    canvas = [side // tiles.token_size for side in geometry.target]
    expected = [
        (first * tiles.token_size - padding) / resized * side
        for first, padding, resized, side in zip(
            ((all_ - own) // 2 for all_, own in
             zip(canvas, (geometry.rows, geometry.columns), strict=True)),
            geometry.padding, geometry.resized, size, strict=True,
        )
    ]  # fmt: skip
    height, width = size
    left, top, seen_width, seen_height = grid_area(width, height, geometry.rows, geometry.columns)
    pixels = [side / resized for side, resized in zip(size, geometry.resized, strict=True)]
    assert [top, left] == pytest.approx(expected, abs=1.01 * max(pixels))  # of the canvas: rounding
    cells = seen_height / geometry.rows, seen_width / geometry.columns
    token = [tiles.token_size * pixel for pixel in pixels]
    assert cells == pytest.approx(token, rel=2 / min(geometry.resized))


def test_a_grid_of_more_rows_than_the_picture_ends_beyond_it(tmp_path: Path) -> None:
    frame = replace(selection(0, 0.1, rows=28), thumbnail_jpeg=jpeg(480, 270))
    page = Page(report(tmp_path, answer(frame)))
    assert page.paths("veil")[1].startswith("M0 0.5h48v27h-48z")
    assert page.elements["g"][1]["transform"] == "translate(0 -5) scale(10 10)"


def test_frames_of_several_sizes_have_cells_of_their_own(tmp_path: Path) -> None:
    tall = replace(selection(1, 0.3, rows=48, columns=20), thumbnail_jpeg=jpeg(100, 240))
    frames = [selection(0, 0.3), tall, selection(2, 0.3, 0, 0)]
    page = Page(report(tmp_path, answer(*frames)))
    assert [veil.partition("z")[0] for veil in page.paths("veil")] == [
        "M0 0h24v24h-24", "M0 0h48v27h-48", "M0 0h24v24h-24", "M0 0h20v48h-20", "M0 0h24v24h-24",
    ]  # fmt: skip


def test_what_the_user_supplied_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"
    frame = selection(0, 0.1)
    hostile = replace(
        answer(frame),
        video=f"/clips/{attack}.mkv",
        question=attack,
        answer=f"{attack} & more",
        model=attack,
        seconds={attack: 1.0},
        peak_memory_bytes={attack: 1},
        warnings=(attack,),
        config={attack: {attack: attack}},
    )
    source = report(tmp_path, hostile)
    page = Page(source)
    assert "<script" not in source
    assert not page.elements["script"]
    assert not page.elements["img"]
    assert f"{attack} & more" in page.text


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    source = report(tmp_path, answer(selection(0, 0.1), selection(1, 0.1)))
    elements = [element for group in Page(source).elements.values() for element in group]
    links = [element[key] for element in elements for key in ("href", "src") if key in element]
    assert re.findall(r"https?://|@import|url\(|<link|<script|<iframe", source) == []
    assert all(re.match(r"#|data:image/jpeg;base64,", link or "") for link in links)
    assert {"#frame-0", "#frame-1", "#picture-0", "#picture-1"} <= set(links)


def test_links_lead_to_elements_of_the_page(tmp_path: Path) -> None:
    page = Page(report(tmp_path, answer(selection(3, 0.1), selection(7, 0.1))))
    elements = [element for group in page.elements.values() for element in group]
    names = [element["id"] for element in elements if "id" in element]
    links = [link["href"] for link in page.elements["a"] + page.elements["use"]]
    assert len(names) == len(set(names))
    assert {f"#{name}" for name in names} == set(links)


def test_each_picture_is_embedded_once(tmp_path: Path) -> None:
    page = Page(report(tmp_path, answer(selection(0, 0.1), selection(1, 0.1))))
    assert len(page.elements["image"]) == 2
    assert len(page.elements["use"]) == 2


def test_the_numbers_are_on_the_page(tmp_path: Path) -> None:
    frame = selection(0, 0.5)
    base, grid = expected_cells(frame)
    num_newlines = len(frame.keep_indices) - len(base) - len(grid)
    text = Page(report(tmp_path, answer(frame))).text
    used = frame.num_visual_tokens
    assert f"Visual tokens kept {used:,} of 12,345 unpruned ({100 * used / 12345:.1f}%)" in text
    assert f"Budget used {100 * used / 4096:.1f}% {used:,} of 4,096 tokens" in text
    assert "Text tokens 43 Model tiny-llava" in text
    assert "decode 0.50 s" in text
    assert "generate 1.25 s" in text
    assert "driver 300 MiB" in text
    assert "language 3.00 GiB" in text
    assert "1:02:03.000 frame 0" in text
    assert f"base {len(base)} of 576 grid {len(grid)} of 1,296" in text
    assert f"newlines {num_newlines} of 27 timestamps 6 informativeness 21.25 / 18.75" in text
    assert "sampling.fps 1.0 executor local" in text


def test_what_a_question_chose_among_is_told(tmp_path: Path) -> None:
    plain = answer(selection(0, 0.1))
    aware = replace(plain, num_entering_tokens=7654)
    heading = "Entered the model's first layers"
    assert heading not in Page(report(tmp_path, plain, plain)).text
    told = Page(report(tmp_path, aware)).text
    assert f"{heading} 7,654" in told
    assert "chosen anew for each question" not in told
    assert "chosen anew for each question" in Page(report(tmp_path, aware, aware)).text


def test_each_picture_says_in_words_what_it_shows(tmp_path: Path) -> None:
    frame = selection(0, 0.5)
    base, grid = expected_cells(frame)
    page = Page(report(tmp_path, answer(frame)))
    assert [svg["aria-label"] for svg in page.elements["svg"]] == [
        f"Frame at 1:02:03.000, low resolution: {len(base)} of 576 cells kept",
        f"Frame at 1:02:03.000, high resolution: {len(grid)} of 1,296 cells kept",
    ]


def test_bars_stand_at_the_time_of_their_frame(tmp_path: Path) -> None:
    frames = [replace(selection(i, 0.1), pts_seconds=pts) for i, pts in enumerate((2.0, 3.0, 5.0))]
    page = Page(report(tmp_path, answer(*frames)))
    styles = [link["style"] for link in page.elements["a"] if "style" in link]
    assert styles == ["left:0.0%;width:25.0%", "left:25.0%;width:25.0%", "left:75.0%;width:25.0%"]


def test_novelty_shows_where_any_frame_has_some(tmp_path: Path) -> None:
    plain = selection(0, 0.1)
    novel = replace(selection(1, 0.1), novelty=0.25)
    assert "novelty" not in Page(report(tmp_path, answer(plain))).text
    text = Page(report(tmp_path, answer(plain, novel))).text
    assert "novelty 1.000" in text
    assert "novelty 0.250" in text


def test_every_question_is_shown_with_its_answer_and_seconds(tmp_path: Path) -> None:
    first = replace(answer(selection(0, 0.1)), warnings=("a gap", "a late frame"))
    second = replace(
        first,
        question="Who cooks?",
        answer="",
        num_text_tokens=7,
        num_answer_tokens=5,
        num_tiles=5,
        num_encoded_tiles=5,
        seconds={"generate": 0.25},
        peak_memory_bytes={"language": 4 << 30},
        warnings=("a gap",),
    )
    text = Page(report(tmp_path, first, second)).text
    assert "What is cooked? A pancake. Who cooks? (The model gave no text.)" in text
    assert "Text tokens 43 · 7" in text
    assert "Question 2 generate 0.25 s" in text
    assert "driver 300 MiB language 4.00 GiB" in text
    assert text.count("a gap") == 1


def test_a_frame_without_grid_shows_its_base_only(tmp_path: Path) -> None:
    page = Page(report(tmp_path, answer(selection(0, 0.5, rows=0, columns=0))))
    assert len(page.paths("veil")) == 1
    assert "not looked at in high resolution" in page.text
    assert "grid none timestamps 6 informativeness 21.25" in page.text


@pytest.mark.parametrize(("rows", "columns", "viewbox"), [(27, 48, "0 0 48 27"), (0, 0, "0 0 1 1")])
def test_a_frame_without_picture_keeps_the_shape_of_its_grid(
    tmp_path: Path, rows: int, columns: int, viewbox: str
) -> None:
    frame = replace(selection(0, 0.1, rows, columns), thumbnail_jpeg=b"")
    page = Page(report(tmp_path, answer(frame)))
    assert not page.elements["image"]
    assert not page.elements["use"]
    assert {svg["viewbox"] for svg in page.elements["svg"]} == {viewbox}


def test_a_clip_without_frames_still_has_a_page(tmp_path: Path) -> None:
    assert "Frames 0" in Page(report(tmp_path, answer())).text


def test_many_cells_stay_small(tmp_path: Path) -> None:
    frames = [replace(selection(i, 0.5, 48, 48), thumbnail_jpeg=b"") for i in range(8)]
    assert len(report(tmp_path, answer(*frames))) / len(frames) < 40_000


def test_an_earlier_page_is_replaced_and_nothing_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "out.html").write_text("an earlier page")
    assert "What is cooked?" in report(tmp_path, answer(selection(0, 0.1)))
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_a_name_that_is_not_utf8_does_not_stop_the_page(tmp_path: Path) -> None:
    clip = replace(answer(selection(0, 0.1)), video="/clips/caf\udce9.mkv")
    assert "caf?.mkv" in report(tmp_path, clip)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "out.html"
    message = f"--report {path}: cannot be written: No such file or directory"
    with pytest.raises(OutputError, match=f"^{re.escape(message)}$"):
        write_report(path, [answer(selection(0, 0.1))])


def test_a_directory_in_place_of_the_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    path.mkdir()
    with pytest.raises(OutputError, match=re.escape(f"--report {path}: cannot be written")):
        write_report(str(path), [answer(selection(0, 0.1))])
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


@pytest.mark.parametrize("path", ["", "/proc/out.html", "x" * 300])
def test_a_path_nobody_can_write_is_one_line(path: str) -> None:
    with pytest.raises(OutputError, match=r"^--report [^\n]*: cannot be written: [^\n]+$"):
        write_report(path, [answer(selection(0, 0.1))])


def test_no_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at least one answer: len\(answers\) = 0"):
        write_report(tmp_path / "out.html", [])


def test_importing_the_module_loads_neither_pillow_nor_torch() -> None:
    code = "import sys, streaming.report.page; print(sorted({'PIL', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], capture_output=True
    )
    assert done.stdout == b"[]\n"
