"""The storage page in a browser: by mouse and by keyboard, with and without JavaScript."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from kit.pages import make_sample, served
from kit.requirements import require_command
from kit.servers import Nginx
from registry_wsgi import LocalRegistry, ModelCache
from registry_wsgi.cache.collector import PruneReport
from registry_wsgi.http.authorization import bearer_token

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

OpenPage = Callable[..., "Page"]

PAGE = (Path(__file__).parents[2] / "docs" / "page.rst").read_text()

SHOT = {"viewport": {"width": 980, "height": 720}, "reduced_motion": "reduce"}
TALL = {"viewport": {"width": 360, "height": 1_000}}
PHONE = {"viewport": {"width": 320, "height": 640}}
DARK = {"color_scheme": "dark"}


def see(locator: Locator, text: str) -> None:
    """Wait until *text* is in it."""
    from playwright.sync_api import expect

    expect(locator).to_contain_text(text, timeout=20_000)


def focused(page: Page) -> str:
    """The label of what has the focus."""
    label: str = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
    return label


def names(cache: ModelCache) -> set[str]:
    """The short names of the models."""
    return {model.name.removeprefix("registry.ollama.ai/library/") for model in cache.models()}


def hold_prunes(cache: ModelCache) -> threading.Event:
    """Let each prune tell how far it is, and then wait for the event."""
    go, prune = threading.Event(), cache.prune

    def slow(**options: Any) -> PruneReport:
        if options.get("progress"):
            options["progress"]("removing blobs", 3, 9)
            assert go.wait(20)
        return prune(**options)

    cache.prune = slow  # type: ignore[method-assign]
    return go


# By hand


def test_a_delete_is_undone_by_keyboard(page: Page, cache: ModelCache) -> None:
    """The focus goes to the next row, it is announced, and Ctrl+Z brings the model back."""
    page.get_by_label("Delete mixtral:8x22b").focus()
    page.keyboard.press("Enter")
    see(page.locator("#notice"), "Deleted mixtral:8x22b.")
    see(page.locator("#say"), "To undo, press Control and Z.")
    assert focused(page) == "Delete qwen2.5:72b"
    assert "mixtral:8x22b" not in names(cache)
    page.keyboard.press("Control+z")
    see(page.locator("#notice"), "Restored 1 model.")
    assert "mixtral:8x22b" in names(cache)


def test_the_keyboard_reaches_everything(page: Page) -> None:
    """From the top: the link that skips, the search, the first row, without a trap."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
        if page.evaluate("document.activeElement === document.body"):
            break
    for part in ('id="q"', 'id="sort"', 'value="llama3.1:405b"', 'name="restore"', 'value="due"'):
        assert any(part in element for element in reached)


def test_the_list_is_searched_sorted_and_selected(page: Page, cache: ModelCache) -> None:
    """While one types; a selection says what it frees together, and is deleted."""
    page.locator("#q").press_sequentially("llama3.1 b")
    see(page.locator("#count"), "2 of 10")
    assert page.evaluate("document.activeElement.id") == "q"
    page.locator("#q").fill("")
    page.locator("#sort").select_option("name")
    see(page.locator("#t tbody tr").first, "gemma2:27b")
    page.get_by_label("Select llama3.1:8b").check()
    page.get_by_label("Select team/support-bot:staging").check()
    see(
        page.locator("#sum"), "2 selected, 9.8 GB: deleting them frees 4.9 GB".replace("9.8", "4.9")
    )
    page.get_by_text("Delete the selected").click()
    see(page.locator("#notice"), "Deleted 2 models.")
    assert len(names(cache)) == 8
    page.get_by_role("button", name="Undo").click()
    see(page.locator("#notice"), "Restored 2 models.")
    see(page.locator("#t tbody tr").first, "gemma2:27b")


def test_a_prune_is_shown_first_and_then_its_progress(page: Page, cache: ModelCache) -> None:
    """By name; and what it did in the end."""
    go = hold_prunes(cache)
    page.locator("#q").fill("llama")
    see(page.locator("#count"), "4 of 10")
    page.get_by_text("Show what would go").click()
    see(page.locator("#plan"), "<script>alert(1)<!--")
    see(page.locator("#verdict"), "frees 9.1 GB")
    page.get_by_text("Remove for good").click()
    see(page.locator("#plan"), "removing blobs")
    assert page.locator("progress").get_attribute("value") == "3"
    go.set()
    see(page.locator("#notice"), "9.1 GB are free.")
    see(page.locator("#count"), "4 of 10")
    assert cache.orphans() == []


def test_a_deleted_model_is_restored_or_removed(page: Page, cache: ModelCache) -> None:
    """From the trash; what goes for good is shown first."""
    page.get_by_label("Restore llama2:70b").click()
    see(page.locator("#notice"), "Restored 1 model.")
    assert "llama2:70b" in names(cache)
    page.get_by_label("Remove vicuna:33b for good").click()
    see(page.locator("#plan"), "What would go: vicuna:33b")
    page.get_by_text("Remove for good").click()
    see(page.locator("#notice"), "18.4 GB are free.")
    assert cache.deleted() == []


def test_the_row_after_the_deleted_one_may_be_gone(page: Page, cache: ModelCache) -> None:
    """As another tab has deleted it: the undo is there all the same."""
    rows = page.locator("#t button[name=delete]")
    here, after = (rows.nth(row).get_attribute("value") or "" for row in (0, 1))
    cache.unlink(after)
    rows.nth(0).click()
    see(page.locator("#notice"), f"Deleted {here}.")
    page.keyboard.press("Control+z")
    see(page.locator("#notice"), "Restored 1 model.")
    assert here in names(cache)


def test_a_delete_that_is_final_is_confirmed(open_page: OpenPage, tmp_path: Path) -> None:
    """Where the retention is 0; the question has the focus."""
    cache = make_sample(tmp_path / "final", retention=0)
    page = open_page(LocalRegistry(None, cache, page="/registry/"))
    page.locator("#t button[name=delete]").nth(0).click()
    see(page.locator("#plan"), "Delete for good?")
    assert page.evaluate("document.activeElement.id") == "plan"
    before = names(cache)
    page.get_by_role("button", name="Delete for good").click()
    see(page.locator("#notice"), "Deleted 1 model.")
    assert len(names(cache)) == len(before) - 1


def test_a_double_click_deletes_one_model(page: Page, cache: ModelCache) -> None:
    """The second click would meet the next row, which has moved up; nor does Enter, held down."""
    before = names(cache)
    box = page.locator("#t button[name=delete]").nth(0).bounding_box()
    assert box is not None
    spot = box["x"] + 10, box["y"] + 10
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.mouse.click(*spot)
    see(page.locator("#notice"), "Deleted ")
    page.mouse.click(*spot)
    page.keyboard.press("Enter")
    page.get_by_text("Dismiss").click()
    assert len(before - names(cache)) == 1
    page.clock.run_for(800)
    page.mouse.click(*spot)
    see(page.locator("#notice"), "Deleted ")
    assert len(before - names(cache)) == 2


def test_each_delete_can_be_undone(page: Page, cache: ModelCache) -> None:
    """The latest first, by Ctrl+Z again or by the button."""
    before = names(cache)
    for name in ("gemma2:27b", "mixtral:8x22b", "qwen2.5:72b"):
        page.get_by_label(f"Delete {name}").click()
        see(page.locator("#notice"), f"Deleted {name}.")
    page.get_by_label("Restore mixtral:8x22b").click()
    see(page.locator("#notice"), "Restored 1 model.")
    page.keyboard.press("Control+z")
    see(page.locator("#t"), "qwen2.5:72b")
    page.get_by_role("button", name="Undo the delete of gemma2:27b").click()
    see(page.locator("#t"), "gemma2:27b")
    assert page.get_by_role("button", name="Undo").count() == 0
    assert names(cache) == before


def test_many_ticks_ask_for_one_sum(page: Page) -> None:
    """Once the ticking pauses."""
    sums: list[str] = []
    page.on("request", lambda request: sums.append(request.post_data or ""))
    page.evaluate("document.querySelectorAll('#t input').forEach(box => box.click())")
    see(page.locator("#sum"), "selected, ")
    assert len([body for body in sums if "sum=" in body]) == 1


def test_two_tabs(page: Page, open_page: OpenPage, cache: ModelCache) -> None:
    """A model that was deleted in the other tab is said to be gone; the page stays."""
    other = open_page(page.url.partition("/registry/")[0])
    other.get_by_label("Delete gemma2:27b").click()
    see(other.locator("#notice"), "Deleted gemma2:27b.")
    page.get_by_label("Delete gemma2:27b").click()
    see(page.locator("#notice"), "gemma2:27b: model not found")
    page.get_by_text("Refresh").click()
    see(page.locator("#count"), "9")


def test_a_server_that_is_gone_is_said(open_page: OpenPage, cache: ModelCache) -> None:
    """Nothing on the page is lost."""
    with served(LocalRegistry(None, cache, page="/registry/")) as url:
        page = open_page(url)
    page.get_by_label("Delete gemma2:27b").click()
    see(page.locator("#notice"), "The server cannot be reached.")
    see(page.locator("#t"), "gemma2:27b")


# A token


def test_the_page_asks_for_the_token(open_page: OpenPage, cache: ModelCache) -> None:
    """It is in no URL, it stays in the tab, and it can be forgotten."""
    urls: list[str] = []
    app = LocalRegistry(None, cache, page="/registry/", authorize=bearer_token("se cret", "ü"))
    page = open_page(app)
    page.on("request", lambda request: urls.append(request.url))
    for token, said in (("wrong", "That token is not right."), ("ü", "")):
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        if said:
            see(page.locator("#ask-p"), said)
    see(page.locator("#t"), "gemma2:27b")
    page.reload()
    page.get_by_label("Delete gemma2:27b").click()
    see(page.locator("#notice"), "Deleted gemma2:27b.")
    assert not [url for url in urls if "%C3%BC" in url or "ü" in url or "wrong" in url]
    assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
    page.get_by_text("Forget the token").click()
    page.locator("#ask").wait_for()
    assert "gemma2" not in page.content()


# Without JavaScript


def test_without_javascript_the_forms_do_it(open_page: OpenPage, cache: ModelCache) -> None:
    """Delete, undo, look and prune, below a prefix."""
    app = LocalRegistry(None, cache, page="/registry/")
    mounted = DispatcherMiddleware(NotFound(), {"/tools/models": app})
    page = open_page(mounted, "/tools/models/registry", java_script_enabled=False)
    page.get_by_label("Delete gemma2:27b").click()
    see(page.locator("#notice"), "Deleted gemma2:27b.")
    page.get_by_role("button", name="Undo").click()
    see(page.locator("#notice"), "Restored 1 model.")
    page.get_by_text("Empty the trash").click()
    see(page.locator("#verdict"), "2 deleted models")
    page.get_by_text("Remove for good").click()
    see(page.locator("#notice"), "57.3 GB are free.")
    assert page.url.startswith(page.url.partition("/tools")[0] + "/tools/models/registry/?")
    assert cache.deleted() == []


def test_behind_nginx_as_documented(open_page: OpenPage, cache: ModelCache, tmp_path: Path) -> None:
    """With the location of the documentation, which passes the port on; no form is refused."""
    require_command("nginx")
    (location,) = re.findall(r"\n    (location /registry/ .*?\n    \})", PAGE, re.DOTALL)
    app = LocalRegistry(None, cache, page="/registry/", authorize=lambda *_: True)
    with served(app) as url:
        changes = {"    # Every spelling": f"    {location}\n    # Every spelling"}
        folder = tmp_path / "nginx"
        folder.mkdir()
        nginx = Nginx(folder, int(url.rpartition(":")[2]), 9, changes)
        try:
            page = open_page(nginx.url.rstrip("/"), java_script_enabled=False)
            page.get_by_label("Delete gemma2:27b").click()
            see(page.locator("#notice"), "Deleted gemma2:27b.")
        finally:
            nginx.stop()


# Other sites


def test_another_site_can_neither_post_nor_frame(open_page: OpenPage, cache: ModelCache) -> None:
    """A browser says that the form is of another site, and shows no page of ours in a frame."""
    with served(LocalRegistry(None, cache, page="/registry/")) as ours:
        html = (
            f'<iframe src="{ours}/registry/"></iframe>'
            f'<form method="post" action="{ours}/registry/do">'
            '<input name="delete" value="gemma2:27b"><button>Win</button></form>'
        )
        with served(Response(html, content_type="text/html")) as theirs:
            page = open_page(theirs.replace("127.0.0.1", "localhost"), "/")
            assert page.frame_locator("iframe").locator("#t").count() == 0
            page.get_by_text("Win").click()
            see(page.locator("#error"), "not from a page of another site")
    assert "gemma2:27b" in names(cache)


# For everybody


STATES: dict[str, Callable[[Page], object]] = {
    "#main": lambda page: None,
    "#notice": lambda page: page.get_by_label("Delete qwen2.5:72b").click(),
    "#plan": lambda page: page.get_by_text("Show what would go").click(),
    "#sum": lambda page: page.get_by_label("Select gemma2:27b").check(),
}


@pytest.mark.parametrize(
    ("options", "states"),
    [({}, [*STATES]), (DARK, ["#notice", "#sum"]), (PHONE, ["#main", "#notice"])],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing(
    open_page: OpenPage, cache: ModelCache, options: dict[str, Any], states: list[str]
) -> None:
    """In no state, be it light or dark; and nothing is wider than a small phone."""
    app = LocalRegistry(None, cache, page="/registry/")
    page = open_page(app, reduced_motion="reduce", **options)
    for state in states:
        STATES[state](page)
        page.locator(state).wait_for()
        assert violations(page) == ""
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if state == "#notice":
            page.get_by_text("Dismiss").click()


def test_axe_finds_nothing_where_a_token_is_asked_for(
    open_page: OpenPage, cache: ModelCache
) -> None:
    """Nor on the page of an error."""
    guarded = LocalRegistry(None, cache, page="/registry/", authorize=bearer_token("x"))
    page = open_page(guarded)
    page.locator("#ask").wait_for()
    assert violations(page) == ""
    error = open_page(LocalRegistry(None, cache, page="/registry/"), "/registry/prune")
    assert violations(error) == ""


def violations(page: Page) -> str:
    """What axe finds against the page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    return str(found.generate_report()) if found.violations_count else ""


def test_the_screenshots_of_the_documentation(
    open_page: OpenPage, cache: ModelCache, tmp_path: Path
) -> None:
    """They go into the folder that REGISTRY_WSGI_SCREENSHOTS names; else nobody sees them."""
    folder = Path(os.environ.get("REGISTRY_WSGI_SCREENSHOTS", tmp_path))
    app = LocalRegistry(None, cache, page="/registry/")
    for name, options in (("light", {}), ("dark", DARK), ("phone", TALL)):
        page = open_page(app, **{**SHOT, **options})
        page.screenshot(path=folder / f"{name}.png")
    page = open_page(app, **SHOT)
    page.get_by_label("Delete qwen2.5:72b").click()
    page.locator("#notice").wait_for()
    page.screenshot(path=folder / "undo.png")
    page.get_by_text("Show what would go").click()
    page.locator("#plan").wait_for()
    page.locator("#prune").screenshot(path=folder / "preview.png")
    go = hold_prunes(cache)
    page.get_by_text("Remove for good").click()
    see(page.locator("#plan"), "removing blobs")
    page.locator("#prune").screenshot(path=folder / "progress.png")
    go.set()
    see(page.locator("#notice"), "are free.")
    assert {path.name for path in folder.glob("*.png")} >= {"undo.png", "progress.png"}
