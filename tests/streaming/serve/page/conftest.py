"""The page in a real browser, for its tests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.streaming.serve.conftest import KEY, Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[4] / "streaming" / "serve" / "page"
EXAMPLE = FOLDER / "example.mp4"
QUESTION = "what number is shown?"
WIDE = {"width": 1280, "height": 900}

_CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_PATIENCE_MS = 20_000

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A Chromium without a window; who has none skips what needs it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if _CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=_CHROMIUM, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser", server: Running) -> Iterator[OpenPage]:
    """Open the page in a window of its own, as the settings say; at the end nothing has failed."""
    contexts, failures = [], []

    def open_one(**settings: Any) -> "Page":
        key = {"username": "", "password": KEY}
        context = browser.new_context(base_url=server.url, http_credentials=key, **settings)
        context.set_default_timeout(_PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda line: failures.append(line.text) if is_refusal(line.text) else 0)
        page.on("dialog", lambda dialog: failures.append(f"a dialog: {dialog.message}"))
        page.goto("/")
        page.wait_for_selector("#pruner option", state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert failures == []


def is_refusal(line: str) -> bool:
    """Whether the console tells of something that the content security policy refused."""
    return "Content Security Policy" in line


@pytest.fixture
def page(open_page: OpenPage) -> "Page":
    """The page with the example in it."""
    page = open_page(viewport=WIDE)
    page.get_by_role("button", name="Try the example").click()
    page.wait_for_selector("#ideas:not([hidden])")
    return page


def ask(page: "Page", question: str) -> None:
    """Ask, and wait for the whole answer, whose card is the first."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".card[aria-busy]", state="detached")
