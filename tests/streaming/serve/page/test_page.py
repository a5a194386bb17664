"""The page, in a real browser, on a real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming.serve.conftest import KEY, SETTINGS, Running, about
from tests.streaming.serve.page.conftest import EXAMPLE, QUESTION, WIDE, OpenPage, ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = "<img src=x onerror=alert(1)>.mp4"
NUM_FRAMES, BUDGET = 4, 128


def test_the_page_begins_with_the_settings_of_the_server(open_page: OpenPage) -> None:
    page = open_page()
    assert page.input_value("#frames") == str(SETTINGS["num_frames"]) == str(NUM_FRAMES)
    assert page.input_value("#budget") == str(SETTINGS["budget"]) == str(BUDGET)
    assert page.input_value("#pruner") == "mr_pruner"
    assert page.locator("#model").inner_text().startswith("embedded: tiny")


def example_on(server: Running) -> str:
    """Return the id of the example, which some page has uploaded."""
    files = server.http.get("/v1/files").json()["data"]
    size = EXAMPLE.stat().st_size
    return next(str(file["id"]) for file in files if file["bytes"] == size)


def cells_in(path: str, columns: int) -> list[int]:
    """Return the cells left clear by a veil."""
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path)
    return [int(y) * columns + int(x) + i for x, y, run in runs for i in range(int(run))]


def test_what_is_seen_is_what_the_server_said(page: "Page", server: Running) -> None:
    ask(page, QUESTION)
    message = about(example_on(server), QUESTION)
    whole = server.chat(message, mr_stream={"evidence": True}).json()
    record = whole["mr_stream"]
    card = page.locator(".card")
    assert card.locator(".answer").inner_text() == whole["choices"][0]["message"]["content"]
    assert card.locator(".kept").inner_text() == str(record["num_visual_tokens"])
    frames = card.get_by_role("option")
    assert frames.count() == len(record["frames"]) == NUM_FRAMES
    for place in (1, 3):
        frames.nth(place).click()
        frame = record["frames"][place]
        for kind in ("base", "grid"):
            veil = card.locator(f".patches .{kind} .veil").get_attribute("d") or ""
            assert cells_in(veil, frame[kind]["columns"]) == frame[kind]["kept"]
        told = card.locator(".patches .tokens").inner_text()
        assert told.startswith(f"{frame['num_visual_tokens']} tokens")
    card.locator(".patches .time").click()
    shown = page.locator("#player").evaluate("player => player.currentTime")
    assert shown == pytest.approx(record["frames"][3]["pts_seconds"], abs=0.01)


def test_a_turned_dial_answers_anew_from_warm_tokens(page: "Page") -> None:
    ask(page, QUESTION)
    ask(page, "what color is the triangle?")
    page.wait_for_selector(".strip img")
    page.evaluate("Promise.all([...document.images].map(picture => picture.decode()))")
    asked: list[dict[str, Any]] = []
    page.on("request", lambda sent: asked.append(sent.post_data_json))
    card, other = page.locator(".card").nth(0), page.locator(".card").nth(1)
    heights = "strip => [...strip.querySelectorAll('i')].map(bar => bar.style.height)"
    before = other.locator(".strip").evaluate(heights)
    dial = card.get_by_role("slider", name="Budget")
    dial.evaluate(
        "dial => { for (const place of [40, 35, 30, 25, 20]) {"
        "  dial.value = place; dial.dispatchEvent(new Event('input')); } }"
    )
    card.locator(".took:not(:empty)").wait_for()  # which turning has emptied
    (body,) = asked  # and no picture, which it has
    budget = body["mr_stream"]["budget"]
    assert NUM_FRAMES < budget < BUDGET
    assert dial.get_attribute("aria-valuetext") == f"{budget} tokens"
    assert card.locator(".kept").inner_text() == str(budget)
    assert re.fullmatch(r"[\d.]+ m?s", card.locator(".took").inner_text())
    assert "warm" in card.locator(".meters").inner_text()
    assert other.locator(".kept").inner_text() == str(BUDGET)
    assert other.locator(".strip").evaluate(heights) == before
    assert card.locator(".strip").evaluate(heights) != before


def test_all_of_it_without_a_mouse(open_page: OpenPage) -> None:
    page = open_page(viewport=WIDE)
    focused = page.locator(":focus")
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(focused.evaluate("it => it.id || it.textContent"))
    assert order == [
        "Skip to the question", "theme", "choose", "example", "question", "budget", "frames",
        "pruner",
    ]  # fmt: skip
    page.focus("#example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ideas:not([hidden])")
    page.focus("#question")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Shift+Enter")
    assert page.locator(".card").count() == 0
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card [role=option]")
    page.locator(".card .dial input").focus()
    page.keyboard.press("Tab")
    assert "tokens, " in (focused.get_attribute("aria-label") or "")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    chosen = page.locator("[role=option][aria-selected=true]")
    patches = page.locator(".patches")
    assert focused.evaluate("it => [...it.parentElement.children].indexOf(it)") == 2
    assert chosen.count() == 1
    assert patches.is_visible()
    page.keyboard.press("End")
    assert focused.evaluate("it => it === it.parentElement.lastElementChild")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert patches.is_hidden()
    assert focused.get_attribute("role") == "option"
    assert page.get_by_role("status").inner_text().startswith(f"{BUDGET} tokens: ")


def drop(page: "Page", name: str) -> None:
    """Drop the example under another name."""
    dragged = page.evaluate_handle(
        "async (name) => { const content = await (await fetch('page/example.mp4')).blob();"
        " const dragged = new DataTransfer(); dragged.items.add(new File([content], name));"
        " return dragged; }",
        name,
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": dragged})
    assert page.locator("#screen.over").count() == 1
    page.dispatch_event("body", "drop", {"dataTransfer": dragged})
    assert page.locator("#screen.over").count() == 0


def test_dropped_names_and_questions_are_text(open_page: OpenPage) -> None:
    page = open_page(viewport=WIDE)
    drop(page, HOSTILE)
    ask(page, "<b>what</b> color is the triangle? <script>alert(1)</script>")
    assert page.locator("#name").inner_text() == HOSTILE
    assert page.locator(".card .question").inner_text().startswith("<b>what</b> color")
    assert page.locator(".card .source").inner_text().startswith(HOSTILE)
    assert page.locator("[src=x], main b:not(.kept), main script").count() == 0


def test_text_that_is_dragged_is_no_clip(page: "Page") -> None:
    dragged = page.evaluate_handle(
        "() => { const dragged = new DataTransfer(); dragged.setData('text/plain', 'x');"
        " return dragged; }"
    )
    for kind in ("dragover", "dragleave"):
        page.evaluate(
            "([kind, dataTransfer]) => document.querySelector('#question').dispatchEvent("
            "new DragEvent(kind, { bubbles: true, dataTransfer, relatedTarget: document.body }))",
            [kind, dragged],
        )
    assert page.locator("#screen.over").count() == 0


def test_an_older_clip_is_looked_at_while_a_new_one_is_sent(page: "Page") -> None:
    ask(page, QUESTION)
    page.locator(".card [role=option]").nth(2).click()
    held: list[Any] = []
    page.route("**/v1/files", lambda route: held.append(route))
    with page.expect_request("**/v1/files"):
        drop(page, "new.mp4")
    page.locator(".patches .time").click()
    assert page.locator("#name").inner_text() == "example.mp4"
    held[0].continue_()
    page.locator("#sent").wait_for(state="hidden")
    ask(page, QUESTION)
    assert page.locator("#name").inner_text() == "new.mp4"
    sources = page.locator(".card .source").all_inner_texts()
    assert [text.partition(" ")[0] for text in sources] == ["new.mp4", "example.mp4"]
    page.locator(".card").nth(1).locator(".patches .time").click()
    ask(page, QUESTION)
    assert page.locator(".card .source").first.inner_text().startswith("example.mp4")


def test_where_nothing_can_be_stored_the_theme_turns(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage',"
        " { get() { throw new DOMException('denied', 'SecurityError'); } });"
    )
    page.reload()
    page.get_by_role("button", name="Light theme").click()
    assert brightness(page) > 220
    page.get_by_role("button", name="Dark theme").click()
    assert brightness(page) < 40


def test_an_error_is_the_line_that_the_server_says(open_page: OpenPage) -> None:
    page = open_page(viewport=WIDE)
    page.set_input_files("#file", {"name": "notes.mp4", "mimeType": "", "buffer": b"no video"})
    with page.expect_response("**/v1/chat/completions") as waiting:
        ask(page, QUESTION)
    message = waiting.value.json()["error"]["message"]
    assert page.locator(".card").get_by_role("alert").inner_text() == message
    assert "notes.mp4" in message
    page.set_input_files("#file", {"name": "empty.mp4", "mimeType": "", "buffer": b""})
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.locator("#trouble").inner_text() == "the file is empty"


def test_a_phone_has_room_for_it_and_the_dark_is_dark(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    page.get_by_role("button", name="Try the example").tap()
    page.get_by_role("button", name=QUESTION).tap()
    page.locator(".card [role=option]").nth(1).tap()
    page.wait_for_selector(".patches img")
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
    assert brightness(page) < 40
    page.get_by_role("button", name="Light theme").tap()
    assert brightness(page) > 220
    page.reload()
    assert brightness(page) > 220
    page.get_by_role("button", name="Dark theme").tap()
    assert brightness(page) < 40
    assert page.evaluate("localStorage.length") == 0


def brightness(page: "Page") -> float:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(channel) for channel in re.findall(r"\d+", color)[:3]]
    return sum(channels) / 3


def test_what_is_copied_asks_the_same(page: "Page", tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, QUESTION)
    copied = {}
    for name in ("curl", "python"):
        page.click(f".copies .{name}")
        page.wait_for_selector(f".copies .{name}.done")
        copied[name] = page.evaluate("navigator.clipboard.readText()")
        assert KEY not in copied[name]
    settings = {**os.environ, "MR_STREAM_API_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-c", copied["python"]],
        env=settings, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = page.locator(".card .answer").inner_text()
    assert done.stdout.strip() == answer
    if shutil.which("curl"):
        done = subprocess.run(
            ["bash", "-c", copied["curl"]], env=settings, capture_output=True, text=True, check=True
        )
        pieces = re.findall(r'"content":"([^"]*)"', done.stdout)
        assert "".join(pieces) == answer


def test_without_the_key_there_is_no_page(server: Running) -> None:
    refused = server.http.get("/", headers={"Authorization": ""})
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
