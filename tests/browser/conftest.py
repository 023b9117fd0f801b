"""Fixtures of the tests with a browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.pages import make_sample, served
from kit.requirements import require, require_command
from registry_wsgi import LocalRegistry, ModelCache

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]

# An answer that is no 200, and a page of another site that tries to show ours in a frame.
_EXPECTED = ("Failed to load resource", "Framing 'http")

#: Opens a page of the app at a path: ``open_page(app, "/registry/", **options of a context)``.
OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each has a context of its own."""
    require("playwright", "axe_playwright_python")
    require_command("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=_FLAGS, headless=True
        )
        yield chromium
        chromium.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """The sample, on a machine with a name."""
    monkeypatch.setattr("socket.gethostname", lambda: "workstation")
    return make_sample(tmp_path / "models")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """
    Serve apps, and open pages of them.

    At the end no page may have said anything else on its console: a script or a style that the
    policy refuses shows there.
    """
    said: list[str] = []
    with ExitStack() as stack:

        def open_it(app: Any, path: str = "/registry/", **options: Any) -> Page:
            url = app if isinstance(app, str) else stack.enter_context(served(app))
            context = browser.new_context(**{"viewport": {"width": 1180, "height": 900}, **options})
            context.set_default_timeout(20_000)
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(url + path)
            return page

        yield open_it
    assert [line for line in said if not line.startswith(_EXPECTED)] == []


@pytest.fixture
def page(open_page: OpenPage, cache: ModelCache) -> Page:
    """The page of the sample."""
    return open_page(LocalRegistry(None, cache, page="/registry/"))
