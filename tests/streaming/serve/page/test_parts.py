"""Parts of the page that have right answers of their own, in a real browser."""

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streaming.report.page import _overlay
from tests.streaming.serve.page.conftest import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

_PIECES = ("Drawn at 0:0", "7.5, after 3 seconds, <img src=x onerror=alert(1)> ", "é at 99:59.")

_FAKE = """
() => {
  const encoder = new TextEncoder();
  const real = window.fetch;
  window.fetch = (path, options) => {
    if (!String(path).includes("completions")) return real(path, options);
    const body = new ReadableStream({ start: (to) => { window.wire = to; } });
    document.body.dataset.asked = "";
    options.signal.addEventListener("abort", () => { window.left = true; });
    return Promise.resolve(new Response(body, { status: 200 }));
  };
  window.send = (text, size) => {
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length; at += size) window.wire.enqueue(bytes.slice(at, at + size));
  };
}
"""


@pytest.fixture
def scripted(page: "Page") -> "Page":
    """The page, whose answers the test sends."""
    page.evaluate(_FAKE)
    page.fill("#question", "what happens?")
    ask(page)
    return page


def ask(page: "Page") -> None:
    """Ask what stands there, and wait until the page has asked the server."""
    page.evaluate("delete document.body.dataset.asked")
    page.press("#question", "Enter")
    page.wait_for_selector("body[data-asked] .card[aria-busy]")


def event(value: object) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def piece(text: str) -> str:
    return event({"choices": [{"delta": {"content": text}}]})


def record(**changes: Any) -> str:
    said = {
        "budget": 8, "num_visual_tokens": 8, "num_unpruned_tokens": 80, "warm": False,
        "seconds": {}, "warnings": [], "frames": [],
    }  # fmt: skip
    return event({"choices": [], "mr_stream": said | changes}) + "data: [DONE]\n\n"


def test_an_answer_is_shown_as_it_comes_and_its_times_lead_to_the_player(scripted: "Page") -> None:
    answer = scripted.locator(".card .answer")
    so_far = ""
    for text in _PIECES:
        scripted.evaluate("text => window.send(text, 3)", piece(text))
        so_far += text
        scripted.wait_for_selector(f".answer:text-is({so_far!r})")
        assert scripted.locator(".card[aria-busy]").count() == 1
    scripted.evaluate("text => window.send(text, 1000)", record(warnings=["<i>odd</i>"]))
    scripted.wait_for_selector(".card[aria-busy]", state="detached")
    assert answer.inner_text() == so_far
    assert scripted.locator(".warnings li").inner_text() == "<i>odd</i>"
    times = answer.locator("button")
    assert times.all_inner_texts() == ["0:07.5", "3 seconds"]
    times.first.click()
    assert scripted.locator("#player").evaluate("player => player.currentTime") == 7.5
    assert scripted.locator("[src=x], .warnings i").count() == 0


def test_an_answer_that_breaks_off_says_so(scripted: "Page") -> None:
    failure = {"error": {"message": "the answer failed here"}}
    scripted.evaluate("text => window.send(text, 50)", piece("It sho") + event(failure))
    alert = scripted.locator(".card").get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "the answer failed here"
    assert scripted.locator(".card .answer").inner_text() == "It sho"
    ask(scripted)
    scripted.evaluate("window.wire.close()")
    alert.first.wait_for()
    assert alert.first.inner_text() == "The connection ended before the answer did."


def progress(frames_done: int, num_frames: int) -> str:
    told = {"frames_done": frames_done, "num_frames": num_frames}
    return event({"choices": [], "mr_stream": {"progress": told}})


def test_a_bar_shows_how_far_a_new_clip_is_until_the_answer_begins(scripted: "Page") -> None:
    bar, line = (scripted.locator(f".card .encoding {part}") for part in ("progress", "p"))
    assert bar.is_hidden()
    for frames_done in (0, 1200):
        scripted.evaluate("text => window.send(text, 50)", progress(frames_done, 2400))
        scripted.wait_for_selector(f".encoding p:text-matches('^{frames_done:,} of 2,400 frames')")
        assert bar.evaluate("bar => bar.position") == frames_done / 2400
    assert re.fullmatch(r".* encoded · \d+ s", line.inner_text())
    scripted.evaluate("text => window.send(text, 50)", piece("A cat"))
    bar.wait_for(state="hidden")
    assert scripted.locator(".card .answer").inner_text() == "A cat"


@pytest.mark.parametrize("way", ["Escape", "Stop"])
def test_an_answer_is_given_up_and_the_server_told(scripted: "Page", way: str) -> None:
    scripted.evaluate("text => window.send(text, 50)", progress(3, 9))
    stop = scripted.get_by_role("button", name="Stop")
    stop.wait_for()
    {"Escape": lambda: scripted.keyboard.press("Escape"), "Stop": stop.click}[way]()
    assert scripted.locator(".card").get_by_role("alert").inner_text() == "Stopped."
    assert scripted.evaluate("window.left")
    assert scripted.locator(".card[aria-busy]").count() == 0
    assert stop.is_hidden()


def frame(number: int) -> dict[str, Any]:
    cells = {"rows": 2, "columns": 2, "kept": [number % 4], "seen": [0, 0, 1, 1]}
    url = f"/v1/clips/none/frames/{number}"
    return {
        "pts_seconds": number, "num_visual_tokens": 2, "base": cells, "grid": cells,
        "thumbnail": {"width": 4, "height": 3, "url": url},
    }  # fmt: skip


def test_of_many_frames_only_a_chosen_one_is_fetched_and_one_let_go_is_blank(
    scripted: "Page",
) -> None:
    fetched: list[str] = []
    scripted.on("request", lambda sent: fetched.append(sent.url))
    frames = [frame(number) for number in range(300)]
    scripted.evaluate("text => window.send(text, 100000)", record(frames=frames))
    bars = scripted.locator(".card .strip")
    bars.get_by_role("option").nth(299).wait_for()
    assert bars.evaluate("strip => strip.scrollWidth <= strip.clientWidth")
    bars.get_by_role("option").nth(7).click()
    scripted.locator(".patches .blank").nth(1).wait_for()
    assert {url.partition("/v1/")[2] for url in fetched} == {"clips/none/frames/7"}
    assert scripted.locator(".card img").count() == 0


def test_a_literal_is_python_s_whatever_a_text_says(open_page: OpenPage) -> None:
    value = ["true", "null", "constructor", 'it\'s "x"\n', True, False, None, 1.5, {"true": []}]
    text = open_page().evaluate(
        "async (value) => (await import('/page/copies.js')).python({ value, mr_stream: {} })", value
    )
    (line,) = re.findall(r"^    value=(.*),$", text, re.MULTILINE)
    assert ast.literal_eval(line) == value


def test_patches_are_lit_as_in_a_report(open_page: OpenPage) -> None:
    page = open_page()
    noise = np.random.default_rng(3).random((27, 48))
    for share, left, top in ((0.0, 0, 0), (0.3, 0, -5), (0.3, 105, 0), (1.0, 0, -105)):
        cells, area = noise < share, (left, top, 480 - 2 * left, 270 - 2 * top)
        rows, columns = cells.shape
        drawn = page.evaluate(
            "async (cells) => { const { veil, border } = await import('/page/patches.js');"
            " return { veil: veil(cells), border: border(cells) }; }",
            {
                "rows": rows, "columns": columns, "kept": np.flatnonzero(cells).tolist(),
                "seen": [side / (480, 270)[place % 2] for place, side in enumerate(area)],
            },
        )  # fmt: skip
        report = _overlay(cells, 480, 270, area)
        assert numbers(drawn["veil"]) == pytest.approx(numbers(report["veil"]), abs=1e-4)
        assert re.sub(NUMBER, "", drawn["veil"]) == re.sub(NUMBER, "", report["veil"])
        assert sides(drawn["border"]) == sides(report["border"])


NUMBER = r"-?[0-9.]+"


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, path)]


def sides(border: str) -> set[tuple[int, int, str]]:
    """Return the sides of cells that a path runs along, as (x, y, direction)."""
    found = set()
    for x, y, direction, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", border):
        for i in range(int(length)):
            step = (i, 0) if direction == "h" else (0, i)
            found.add((int(x) + step[0], int(y) + step[1], direction))
    return found
