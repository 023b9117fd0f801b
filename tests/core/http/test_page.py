"""The storage page: what it shows, what its forms do, and who may use it, without a browser."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from wsgiref.validate import validator

import pytest
from webtest import TestApp, TestResponse
from werkzeug.exceptions import HTTPException
from werkzeug.utils import redirect

from kit.asking import Shelf, hello
from kit.clocks import Clock
from kit.inside import name_items, show_rows
from kit.trees import HOST, Tree, blob
from registry_wsgi import DiskStore, LocalRegistry, ModelCache, create_app
from registry_wsgi.errors import ConfigurationError
from registry_wsgi.http.authorization import bearer_token

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
EVIL = "http://evil.example"


@pytest.fixture
def clock() -> Clock:
    """A clock so far ahead that all files are old."""
    return Clock.far_ahead()


@pytest.fixture
def cache(tree: Tree, clock: Clock) -> ModelCache:
    """Two models that share a blob."""
    tree.add("smol", b"weights" * 1_000, b"own")
    tree.add("other", b"weights" * 1_000)
    return ModelCache(DiskStore(tree.root), clock=clock)


def browser(app: LocalRegistry, host: str = "localhost", **environ: str) -> TestApp[Any]:
    """A browser without JavaScript, which asks for *host*; the validator of PEP 3333 is between."""
    return TestApp(validator(app), {"HTTP_HOST": host, **environ}, lint=False)


@pytest.fixture
def page(cache: ModelCache) -> TestApp[Any]:
    """A browser, for a page of these models."""
    return browser(LocalRegistry(None, cache, page="/registry/"))


def show(page: TestApp[Any], url: str = "/registry/", **options: Any) -> TestResponse:
    """Open a page."""
    return page.get(url, status="*", **options)


def press(page: TestApp[Any], shown: TestResponse, name: str, **ticked: list[str]) -> TestResponse:
    """
    Press the first button that *name* stands for, and go on to the next page.

    Args:
        page: The browser.
        shown: The page with the button.
        name: How its name and value begin, ``delete=smol`` say, or its text.
        ticked: The values of the boxes that are ticked, by their names.
    """
    buttons = (b for form in soup(shown).find_all("form") for b in form.find_all("button"))
    button = next(
        b
        for b in buttons
        if f"{b.get('name')}={b.get('value')}".startswith(name) or b.get_text() == name
    )
    form = button.find_parent("form")
    fields = [
        (field["name"], field.get("value", ""))
        for field in form.find_all("input")
        if field["type"] != "checkbox" or field["value"] in ticked.get(field["name"], ())
    ]
    if button.get("name"):
        fields.append((button["name"], button["value"]))
    query = urlencode(fields)
    if form.get("method") != "post":
        return shown.goto(form.get("action", "./"), params=query)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = shown.goto(
        form["action"], method="post", params=query, headers={**OURS, **kind}, status="*"
    )
    referer = {"Referer": shown.request.url}  # as browsers do
    return answer.follow(headers=referer) if answer.status_code == 303 else answer


def post(page: TestApp[Any], body: str, **headers: str) -> TestResponse:
    """Post a form, with these headers alone."""
    return page.post(
        "/registry/do",
        body,
        content_type="application/x-www-form-urlencoded",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        status="*",
    )


def names(cache: ModelCache) -> list[str]:
    """The short names of the models."""
    return [model.name.rpartition("/")[2] for model in cache.models()]


def soup(shown: TestResponse) -> Any:
    """The page as beautifulsoup has it, whose types are for every kind of element."""
    return shown.html


def text(shown: TestResponse, where: str) -> str:
    """The text of an element."""
    found = soup(shown).select_one(where)
    return "" if found is None else " ".join(found.get_text(" ").split())


# What it shows and does


def test_the_page_shows_what_there_is(page: TestApp[Any], cache: ModelCache, tree: Tree) -> None:
    """The models by what deleting them frees, the trash, and what a prune would free."""
    cache.protect("other")
    cache.unlink("smol")
    tree.add("tiny", b"tiny")
    shown = show(page)
    assert shown.status_code == 200
    assert [row.get_text() for row in soup(shown).select("#t bdi")] == [
        "other:latest",
        "tiny:latest",
    ]
    assert "7.0 kB" in text(shown, "#t tbody tr")
    assert "protected" in text(shown, "#t tbody tr")
    assert "smol:latest" in text(shown, "#trash")
    assert "delete smol:latest 7.0 kB" in text(shown, "#history tbody")
    assert "free of" in text(shown, "#space")
    assert "would free nothing now, and" in text(shown, "#space")


def test_a_delete_can_be_undone(page: TestApp[Any], cache: ModelCache) -> None:
    """The page says until when, and the button beside that brings back this delete."""
    shown = press(page, show(page), "delete=smol")
    assert names(cache) == ["other:latest"]
    assert text(shown, "#notice p").startswith("Deleted smol:latest . It can be restored until")
    shown = press(page, shown, "restore=")
    assert names(cache) == ["other:latest", "smol:latest"]
    assert text(shown, "#notice p") == "Restored 1 model."


def test_several_are_deleted_and_come_back(page: TestApp[Any], cache: ModelCache) -> None:
    """Those that are ticked; what they free together is no sum, as they share."""
    both = ["other:latest", "smol:latest"]
    shown = press(page, show(page), "sum=", model=both)
    assert text(shown, "#notice p") == "2 selected, 7.0 kB: deleting them frees 7.0 kB"
    shown = press(page, show(page), "Delete the selected", model=both)
    assert names(cache) == []
    assert text(shown, "#notice p") == "Deleted 2 models."
    press(page, shown, "restore=")
    assert names(cache) == both


def test_a_model_that_went_meanwhile_is_named(page: TestApp[Any], cache: ModelCache) -> None:
    """What could be deleted is, and can be undone; the rest is said."""
    shown = show(page)
    cache.unlink("smol")
    assert press(page, shown, "delete=smol").status_code == 404
    shown = press(page, shown, "Delete the selected", model=["other:latest", "smol:latest"])
    assert shown.status_code == 404
    assert text(shown, "#notice p").startswith("Deleted other:latest .")
    assert text(shown, "#notice p").endswith("smol:latest: model not found.")
    press(page, shown, "restore=")
    assert names(cache) == ["other:latest"]


def test_without_a_retention_a_delete_asks_first(tree: Tree, cache: ModelCache) -> None:
    """As it cannot be undone; each model is named."""
    cache.retention = 0
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    shown = press(page, show(page), "delete=smol")
    assert "smol:latest" in text(shown, "#plan")
    assert names(cache) == ["other:latest", "smol:latest"]
    shown = press(page, shown, "Delete for good")
    assert names(cache) == ["other:latest"]
    assert text(shown, "#notice p") == "Deleted 1 model for good."


def test_a_final_delete_is_of_the_model_that_was_named(tree: Tree, cache: ModelCache) -> None:
    """One that comes under the name meanwhile is asked about, too; what cannot go is not."""
    cache.retention = 0
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    shown = press(page, show(page), "delete=smol")
    tree.add("smol", b"new")
    shown = press(page, shown, "Delete for good")
    assert names(cache) == ["other:latest", "smol:latest"]
    assert text(shown, "#plan [role=alert]").startswith("Nothing was deleted")
    cache.protect("other")
    press(page, shown, "Delete for good")
    assert names(cache) == ["other:latest"]
    assert post(page, "delete=smol", **OURS).status_code == 404
    assert post(page, "delete=other", **OURS).status_code == 403
    tree.write("bad", b"{")
    assert "bad" in text(post(page, "delete=bad", **OURS), "#plan")


def test_a_link_cannot_say_that_something_was_done(page: TestApp[Any]) -> None:
    """Only the page itself leads to what was done."""
    url = "/registry/?models=999&bytes=999999"
    here = "http://localhost/registry/"
    for headers in (
        {},
        {"Referer": "http://evil.example/registry/"},
        {"Referer": "http://localhost/chat/1"},
        {"Referer": "http://["},
        {"Referer": f"http://localhost{url}"},
        {"Referer": here, "Sec-Fetch-Site": "cross-site"},
    ):
        assert text(show(page, url, headers=headers), "#notice") == ""
    shown = show(page, url, headers={"Referer": here, "Sec-Fetch-Site": "same-origin"})
    assert text(shown, "#notice").startswith("Removed 999 models")


def test_a_prune_takes_what_was_shown_and_nothing_else(
    page: TestApp[Any], cache: ModelCache, clock: Clock, tree: Tree
) -> None:
    """A model that is deleted after the look stays in the trash, for all that it is the trash."""
    cache.unlink("smol")
    clock.move(seconds=5)
    shown = press(page, show(page), "what=trash")
    assert "smol:latest" in text(shown, "#plan")
    assert "removes 1 deleted model and 1 blob for good" in text(shown, "#verdict")
    groups = [group.get_text() for group in soup(shown).select("#plan summary")]
    assert groups == ["Deleted models 1", "Their files 1"]
    cache.unlink("other")
    clock.move(seconds=5)
    shown = press(page, shown, "Remove for good")
    assert text(shown, "#notice p").startswith("Removed 1 model and 1 blob for good")
    assert [model.name for model in cache.deleted()] == [f"{HOST}/library/other:latest"]
    assert not (tree.blobs / blob(b"own")).exists()


def test_nothing_goes_that_was_not_shown(
    page: TestApp[Any], cache: ModelCache, clock: Clock, tree: Tree
) -> None:
    """Another program takes a manifest away: the new plan is shown, and then goes."""
    tree.add("stays", b"stays")
    cache.unlink("smol")
    clock.move(seconds=1)
    due, trash = (press(page, show(page), f"what={what}") for what in ("due", "trash"))
    links = soup(show(page)).select("#trash a.button")
    one = show(page).goto(links[0]["href"])
    tree.path("other").unlink()
    for shown in (trash, one):
        again = press(page, shown, "Remove for good")
        assert again.status_code == 409
        assert text(again, "#notice p").startswith("Nothing was removed.")
        assert "2 blobs" in text(again, "#verdict")
    assert len(cache.deleted()) == 1
    assert text(due, "#verdict") == "There is nothing to remove."
    shown = press(page, again, "Remove for good")
    assert text(shown, "#notice p").startswith("Removed 1 model and 2 blobs for good")


def test_what_expires_after_the_look_stays(
    page: TestApp[Any], cache: ModelCache, clock: Clock, tree: Tree
) -> None:
    """It was not in the plan."""
    cache.unlink("smol")
    clock.move(seconds=cache.retention - 60)
    tree.add_blob(b"orphan")
    shown = press(page, show(page), "what=due")
    clock.move(seconds=120)
    shown = press(page, shown, "Remove for good")
    assert text(shown, "#notice p").startswith("Removed 0 models and 1 blob for good")
    assert len(cache.deleted()) == 1


def test_the_trash_can_be_emptied_at_once(
    page: TestApp[Any], cache: ModelCache, clock: Clock
) -> None:
    """A moment after the last delete."""
    cache.unlink("smol")
    clock.move(milliseconds=1)
    shown = press(page, show(page), "what=trash")
    assert "removes 1 deleted model and 1 blob" in text(shown, "#verdict")
    press(page, shown, "Remove for good")
    assert cache.deleted() == []


def test_what_is_due_goes(page: TestApp[Any], cache: ModelCache, clock: Clock, tree: Tree) -> None:
    """The files that nothing needs are named, escaped, and go."""
    tree.add_blob(b"orphan")
    shown = press(page, show(page), "what=due")
    assert blob(b"orphan")[:20] in text(shown, "#plan")
    press(page, shown, "Remove for good")
    assert not (tree.blobs / blob(b"orphan")).exists()
    shown = press(page, show(page), "what=due")
    assert text(shown, "#verdict") == "There is nothing to remove."


def test_what_waits_for_downloads_is_explained(page: TestApp[Any], tree: Tree) -> None:
    """With the link that says that none is under way."""
    now = Clock()
    cache = ModelCache(DiskStore(tree.root), clock=now, retention=1)
    tree.add_blob(b"orphan")
    now.move(seconds=60)
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    shown = press(page, show(page), "what=due")
    assert "Nothing would be removed yet. 6 bytes wait" in text(shown, "#verdict")
    (link,) = (a for a in soup(shown).select("#plan a") if "No download" in a.get_text())
    shown = shown.goto(link["href"])
    assert "removes 1 blob for good" in text(shown, "#verdict")
    press(page, shown, "Remove for good")
    assert not (tree.blobs / blob(b"orphan")).exists()


def test_one_deleted_model_goes_for_good(page: TestApp[Any], cache: ModelCache) -> None:
    """The other deletes stay."""
    cache.unlink("smol")
    cache.unlink("other")
    shown = show(page)
    links = soup(shown).select("#trash a.button")
    shown = shown.goto(next(a["href"] for a in links if "smol" in a["href"]))
    assert "smol:latest" in text(shown, "#plan")
    press(page, shown, "Remove for good")
    assert [model.name for model in cache.deleted()] == [f"{HOST}/library/other:latest"]


def test_a_prune_under_way_is_not_joined(page: TestApp[Any], cache: ModelCache) -> None:
    """It is said, and nothing is removed."""
    cache.unlink("smol")
    release = cache.claim()
    assert release is not None
    answer = post(page, "prune=due&before=2100-01-01T00:00:00Z", **OURS)
    assert (answer.status_code, text(answer, "#error")) == (409, "a prune is under way")
    release()


def test_a_removal_by_another_process_is_shown(
    page: TestApp[Any], cache: ModelCache, tree: Tree
) -> None:
    """How far it is and who runs it; what the file says is text."""
    with DiskStore(tree.root).show_work() as tell:
        tell('{"what": "removing <i>", "done": 3, "total": 9, "user": "<b>"}')
        assert text(show(page), "#work .dim") == "By <b>. removing <i>: 33%"
        assert soup(show(page)).select_one("#work progress")["value"] == "3"
        tell('{"what": "reading manifests", "done": 1200}')
        part = show(page, "/registry/?part=work")
        assert text(part, "#work .dim") == "reading manifests: 1,200"
        assert "smol" not in part.text
    assert soup(show(page)).select_one("#work") is None


def test_the_list_is_searched_sorted_and_paged(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the server, so that any number of models can be looked through."""
    show_rows(monkeypatch, 5)
    for number in range(8):
        tree.write(f"model-{number}", tree.add("seed", b"x").read_bytes())
    page = browser(LocalRegistry(None, ModelCache(DiskStore(tree.root)), page="/registry/"))
    shown = show(page, "/registry/?sort=name&from=5")
    assert [row.get_text() for row in soup(shown).select("#t bdi")][-1] == "seed:latest"
    assert len(soup(shown).select("#t bdi")) == 4
    (before,) = soup(shown).select("#list p > a.button")
    assert len(shown.goto(before["href"]).html.select("#t bdi")) == 5
    shown = show(page, "/registry/?q=MODEL-2&part=list")
    assert text(shown, "#count") == "1 of 9"
    assert soup(shown).select_one("#trash") is None
    assert show(page, "/registry/?from=%D9%A3&sort=x&from=-1&q=%ff").status_code == 200


def test_all_of_the_trash_can_be_seen(
    cache: ModelCache, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts, and by the search; a restore stays on its part."""
    show_rows(monkeypatch, 5)
    for number in range(8):
        tree.add(f"model-{number}", b"x")
        cache.unlink(f"model-{number}")
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    shown = show(page)
    assert len(soup(shown).select("#trash bdi")) == 5
    (after,) = soup(shown).select("#trash p > a.button")
    shown = shown.goto(after["href"])
    assert len(soup(shown).select("#trash bdi")) == 3
    assert "6 to 8 of 8" in text(shown, "#trash")
    shown = show(page, "/registry/?q=model-3&trash=5")
    assert text(shown, "#trash h2") == "Trash 1 of 8"
    shown = press(page, shown, "restore=")
    assert "q=model-3" in shown.request.url
    assert text(shown, "#trash p") == "Nothing in it fits the search."


def test_a_long_plan_says_what_it_does_not_name(
    page: TestApp[Any], tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names all that the report does, and counts the rest."""
    for number in range(205):
        tree.add_blob(f"orphan {number}".encode())
    assert len(soup(show(page, "/registry/prune?what=due")).select("#plan li")) == 205
    name_items(monkeypatch, 200)
    shown = show(page, "/registry/prune?what=due")
    assert len(soup(shown).select("#plan li")) == 200
    assert text(shown, "#plan .warn").startswith("5 more are not named here")


# Who may use it


def test_without_authorize_it_is_there_under_the_names_of_this_machine_alone(
    cache: ModelCache,
) -> None:
    """No other site can have these names, so no page of one reaches it (DNS rebinding)."""
    app = LocalRegistry(None, cache, page="/registry/")
    for host in ("localhost", "LOCALHOST:8434", "127.0.0.1:8434", "[::1]:8434"):
        assert show(browser(app, host)).status_code == 200
    for host in (
        "evil.example",
        "localhost.evil.example",
        "192.0.2.7",
        "",
        "localhost@evil.example",
    ):
        page = browser(app, host)
        shown = show(page)
        assert shown.status_code == 403
        assert "smol" not in shown.text
        origin = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert post(page, "delete=smol", **origin).status_code == 403
    assert len(names(cache)) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://[", "Host": "localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    ],
)
def test_a_form_of_another_page_is_refused(cache: ModelCache, headers: dict[str, str]) -> None:
    """Also one that does not say where it is from, and whatever `origins` says."""
    app = LocalRegistry(None, cache, page="/registry/", origins=["*"])
    for body in ("delete=smol", "prune=due&before=2100-01-01T00:00:00Z"):
        answer = post(browser(app), body, **headers)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(names(cache)) == 2


def test_either_header_is_enough(cache: ModelCache) -> None:
    """Browsers send Sec-Fetch-Site only to https and to this machine, so it is Origin elsewhere."""
    app = LocalRegistry(None, cache, page="/registry/", authorize=lambda *_: True)
    page = browser(app, "models.lan:8080")
    assert post(page, "delete=smol", Origin="http://models.lan:8080").status_code == 303
    assert post(page, "delete=other", Sec_Fetch_Site="same-origin").status_code == 303


def test_a_host_that_a_proxy_has_changed_is_named(cache: ModelCache) -> None:
    """As with ``$host`` in nginx, which leaves the port out."""
    app = LocalRegistry(None, cache, page="/registry/", authorize=lambda *_: True)
    answer = post(browser(app, "models.lan"), "delete=smol", Origin="http://models.lan:8080")
    assert answer.status_code == 403
    assert "http://models.lan:8080" in text(answer, "#error")
    assert text(answer, "#error").endswith(" models.lan")


def test_what_is_no_form_is_refused(page: TestApp[Any], cache: ModelCache) -> None:
    """A type that a page of another site can send without asking, and forms that say too much."""
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/json"):
        answer = page.post(
            "/registry/do", "delete=smol", {**OURS, "Content-Type": kind}, status=415
        )
    for body in ("", "x=1", "delete=smol&prune=due", "delete=", "delete=%00", "restore=smol"):
        answer = post(page, body, **OURS)
        assert answer.status_code == 400
    for body in ("prune=due", "prune=all&before=2100-01-01T00:00:00Z", "prune=due&before=now"):
        assert post(page, body, **OURS).status_code == 400
    assert len(names(cache)) == 2
    assert show(page, "/registry/do").status_code == 405


def test_without_a_token_there_is_the_shell_alone(cache: ModelCache) -> None:
    """It has no name of a model; its files are there for the script to ask for the token."""
    app = LocalRegistry(None, cache, page="/registry/", authorize=bearer_token("secret"))
    page = browser(app)
    shown = show(page)
    assert shown.status_code == 401
    assert shown.headers["WWW-Authenticate"].lower() == "bearer"
    assert soup(shown).select_one("#locked") is not None
    assert "smol" not in shown.text
    assert shown.goto(soup(shown).select_one("script")["src"]).status_code == 200
    assert post(page, "delete=smol", **OURS).status_code == 401
    right = {"Authorization": "Bearer secret"}
    assert "smol" in show(page, headers=right).text
    assert show(page, "/registry/?token=secret").status_code == 401
    assert post(page, "delete=smol", **OURS, **right).status_code == 303


def test_each_action_is_asked_about(cache: ModelCache) -> None:
    """What one may not see is left out; of several models each is asked about before any goes."""
    asked: list[tuple[str, str]] = []

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        asked.append((action, name))
        return action in ("models", "delete") and "smol" not in name

    page = browser(LocalRegistry(None, cache, page="/registry/", authorize=authorize))
    shown = show(page)
    assert not soup(shown).select("#trash, #space, #history")
    assert asked == [(part, "*") for part in ("models", "deleted", "space", "history")]
    asked.clear()
    assert post(page, "delete=&model=other&model=smol", **OURS).status_code == 403
    assert asked == [("delete", f"{HOST}/library/{n}:latest") for n in ("other", "smol")]
    assert len(names(cache)) == 2
    for body, action in (
        ("prune=due&before=2100-01-01T00:00:00Z", ("prune", "*")),
        ("forget=id%20smol", ("forget", f"{HOST}/library/smol:latest")),
        ("restore=id%20smol", ("restore", f"{HOST}/library/smol:latest")),
        ("sum=&model=smol", ("models", "*")),
    ):
        asked.clear()
        assert post(page, body, **OURS).status_code == (403 if action[0] != "models" else 200)
        assert asked[0] == action
    assert show(page, "/registry/prune?what=due").status_code == 403


def test_a_login_of_the_app_comes_before_the_page(cache: ModelCache) -> None:
    """The redirect that `authorize` raises is the answer."""

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        raise HTTPException(response=redirect("/login"))

    page = browser(LocalRegistry(hello, cache, page="/registry/", authorize=authorize))
    assert show(page).location == "/login"
    assert post(page, "delete=smol", **OURS).location == "/login"
    assert show(page, "/else").text == "hello"


def test_a_browser_is_told_what_to_refuse(page: TestApp[Any]) -> None:
    """Each answer says so, an error too; the files may be kept for ever."""
    shown = show(page)
    style = soup(shown).select_one("link[rel=stylesheet]")["href"]
    wrong = [post(page, "x=1", **OURS), post(page, "x=1"), show(page, "/registry/prune")]
    answers = [shown, shown.goto(style), show(page, "/registry"), *wrong]
    assert [answer.status_code for answer in answers] == [200, 200, 308, 400, 403, 400]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
            " img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert "immutable" in answers[1].headers["Cache-Control"]
    assert answers[2].headers["Location"] == "registry/"


def test_hostile_names_are_text(tree: Tree, clock: Clock) -> None:
    """Of models, of files, and in what a link to the page says."""
    evil = "<script>alert(1)</script>"
    tree.add(f"{HOST}/library/{evil.replace('/', '')}\u202e/latest", b"x")
    (tree.blobs / "<img src=x onerror=alert(1)>\x1b[31m").write_bytes(b"y")
    cache = ModelCache(DiskStore(tree.root), clock=clock)
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    shown = [
        show(page, "/registry/", params={"q": f'">{evil}'}),
        show(page),
        show(page, "/registry/prune?what=due"),
        post(page, "delete=%3Cscript%3E%22", **OURS),
    ]
    for answer in shown:
        assert len(soup(answer).select("script")) == 1
        assert not soup(answer).select("img")
        assert not {"\u202e", "\x1b"} & {*answer.text}
    assert "no valid name" in text(shown[1], "#t")
    assert "<img src=x" in text(shown[2], "#plan")


def test_what_cannot_be_read_can_be_deleted(
    page: TestApp[Any], cache: ModelCache, tree: Tree
) -> None:
    """Though it is not in the list; no undo is offered where there is none."""
    tree.write("bad", b"{")
    here = {"Referer": "http://localhost/registry/"}
    shown = post(page, "delete=&model=bad&model=smol", **OURS).follow(headers=here)
    assert "Deleted 2 models. 1 of them cannot be restored." in text(shown, "#notice")
    assert "Restored 1 model." in text(press(page, shown, "restore="), "#notice")
    assert names(cache) == ["other:latest", "smol:latest"]


def test_a_deleted_link_that_leads_nowhere_is_not_said_to_be_listed(
    page: TestApp[Any], cache: ModelCache, tree: Tree
) -> None:
    """It is in the trash, which lists no such link."""
    cache.unlink("other")
    tree.path("bad").parent.mkdir(parents=True)
    tree.path("bad").symlink_to(tree.root / "nowhere")
    shown = press(page, show(page), "delete=bad:latest")
    assert text(shown, "#notice") == "Deleted 1 model."
    assert not soup(shown).select("#notice button, #space .warn")


def test_a_fault_says_nothing_of_its_cause(
    cache: ModelCache, tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it; a manifest that cannot be read is told by the name of its model."""
    page = browser(LocalRegistry(None, cache, page="/registry/"))
    tree.path("bad").parent.mkdir(parents=True)
    tree.path("bad").symlink_to("/secret/path")
    for _ in range(2):
        assert "bad:latest" in text(show(page), "#space .warn")
        shown = show(page, "/registry/prune?what=due")
        assert shown.status_code == 409
        assert text(shown, "#error").startswith("bad:latest: its manifest cannot be read")
        assert "/secret/path" not in shown.text
        tree.path("bad").unlink(missing_ok=True)
        tree.write("bad", b"{")

    def fail() -> None:
        raise OSError("/secret/path")

    cache.models = fail  # type: ignore[method-assign,assignment]
    shown = show(page)
    assert (shown.status_code, text(shown, "#error")) == (500, "internal server error")
    assert "/secret/path" in caplog.text


# How it is set up


def test_a_path_that_cannot_be_the_pages_is_refused(
    cache: ModelCache, monkeypatch: pytest.MonkeyPatch, tree: Tree
) -> None:
    """And a cache that lacks what the page needs."""
    for path in ("", "/", "registry/", "/registry", "//", "/a//b/", "/../", "/api/", "/ä/", "/a?/"):
        with pytest.raises(ConfigurationError, match="not a path for the page"):
            LocalRegistry(None, cache, page=path)
    with pytest.raises(ConfigurationError, match="has no method models"):
        LocalRegistry(None, Shelf(), page="/registry/")
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    monkeypatch.setenv("REGISTRY_WSGI_PAGE", "registry")
    with pytest.raises(ConfigurationError, match='REGISTRY_WSGI_PAGE: "registry": not a path'):
        create_app()
    monkeypatch.setenv("REGISTRY_WSGI_PAGE", "/a/models/")
    assert show(browser(create_app()), "/a/models/").status_code == 200
    monkeypatch.delenv("REGISTRY_WSGI_PAGE")
    assert show(browser(create_app())).status_code == 404


def test_every_url_is_relative(cache: ModelCache) -> None:
    """So that the page works below any path."""
    page = browser(LocalRegistry(None, cache, page="/registry/"), SCRIPT_NAME="/tools")
    cache.unlink("smol")
    shown = show(page)
    places = [
        element[attribute]
        for attribute in ("href", "src", "action")
        for element in soup(shown).select(f"[{attribute}]")
    ]
    assert len(places) > 5
    assert not [place for place in places if place.startswith("/") or "//" in place]
    answer = post(page, "delete=other", **OURS)
    assert answer.headers["Location"].startswith("./?undo=")


def test_the_files_ship_and_are_small() -> None:
    """Each in the package; together less than 30 kB."""
    folder = files("registry_wsgi.http.page")
    sizes = [len(folder.joinpath(f"page.{kind}").read_bytes()) for kind in ("html", "css", "js")]
    assert all(sizes)
    assert sum(sizes) < 30_000


def test_the_log_says_what_a_request_is_for(
    page: TestApp[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And not which parts of the page were shown besides."""
    caplog.set_level(logging.INFO)
    show(page)
    show(page, "/registry/prune?what=due")
    press(page, show(page), "delete=smol")
    by_path = [(vars(record)["path"], vars(record)["action"]) for record in caplog.records]
    assert by_path == [
        ("/registry/", "models"),
        ("/registry/prune", "prune"),
        ("/registry/", "models"),
        ("/registry/do", "delete"),
        ("/registry/", "models"),
    ]
