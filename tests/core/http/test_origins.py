"""Pages of other sites: what a browser is told, and that nothing is changed for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from werkzeug.exceptions import Unauthorized
from werkzeug.test import Client, EnvironBuilder, TestResponse, run_wsgi_app

from kit.asking import Shelf
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache, create_app
from registry_wsgi.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CHAT = "https://chat.example"
EVIL = "https://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "DELETE"}


def app_with_cors(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An app that answers preflights for all its paths."""
    start_response("204 No Content", [("Access-Control-Allow-Methods", "GET, DELETE")])
    return []


def delete(app: LocalRegistry, **headers: str) -> TestResponse:
    """Ask for a delete, as a browser does; the validator of PEP 3333 stands in front of the app."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Client(validator(app)).delete(
        "/api/delete", json={"model": "smol"}, headers=names, buffered=True
    )


def options(app: LocalRegistry, path: str = "/api/delete", **headers: str) -> TestResponse:
    """Ask what may be asked."""
    return Client(validator(app)).options(path, headers={**PREFLIGHT, **headers}, buffered=True)


# OPTIONS


@pytest.mark.parametrize("path", ["/api/delete", "/api/prune", "/api/tags"])
def test_the_app_answers_preflights(
    tree: Tree, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also those for our paths, whatever `origins` says; they are not logged."""
    caplog.set_level(logging.INFO)
    for origins in ([], [CHAT]):
        cache = ModelCache(DiskStore(tree.root))
        app = LocalRegistry(app_with_cors, cache, maintenance=True, origins=origins)
        answer = options(app, path, Origin=CHAT)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, DELETE"
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert caplog.records == []


def test_without_an_app_preflights_of_the_origins_are_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With what the path takes, and the headers that a client has to send."""
    caplog.set_level(logging.INFO)
    answer = options(LocalRegistry(None, Shelf(), origins=["https://Chat.example"]), Origin=CHAT)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == CHAT
    assert answer.headers["Access-Control-Allow-Methods"] == "DELETE"
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert answer.headers["Vary"] == "Origin"
    assert [record.getMessage() for record in caplog.records] == ["OPTIONS /api/delete 204"]


@pytest.mark.parametrize("origins", [[], ["https://other.example"], [f"{EVIL}:444"]])
@pytest.mark.parametrize("origin", [EVIL, "null", "https://chat.example.evil.example"])
def test_without_an_app_other_preflights_are_refused(origins: list[str], origin: str) -> None:
    """By default all of them."""
    answer = options(LocalRegistry(None, Shelf(), origins=origins), Origin=origin)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_options_of_no_page_tells_the_methods(tree: Tree) -> None:
    """As HTTP has it; other paths are as absent as ever."""
    app = LocalRegistry(None, ModelCache(DiskStore(tree.root)), maintenance=True)
    assert options(app).headers["Allow"] == "DELETE, POST"
    assert options(app, "/api/deleted").status_code == 204
    assert options(app, "/api/tags").status_code == 404


# Requests that change something


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec_Fetch_Site": "same-origin", "Origin": EVIL}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Origin": CHAT}, 200),
        ({"Origin": "HTTPS://CHAT.example"}, 200),
        ({"Origin": CHAT, "Sec_Fetch_Site": "cross-site"}, 200),
        ({"Origin": EVIL}, 403),
        ({"Origin": EVIL, "Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": f"{CHAT}.evil.example"}, 403),
        ({"Origin": f"{CHAT}:8080"}, 403),
        ({"Origin": "http://chat.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "http://[localhost"}, 403),
    ],
    ids=str,
)
@pytest.mark.parametrize("app", [None, app_with_cors], ids=["alone", "app"])
def test_a_delete_from_a_page_of_another_site_is_refused(
    app: Any, headers: dict[str, str], status: int
) -> None:
    """Unless its origin is allowed; nothing is deleted, whatever the app says to preflights."""
    cache = Shelf("smol")
    answer = delete(LocalRegistry(app, cache, origins=[CHAT]), **headers)
    assert answer.status_code == status
    assert (cache.names == set()) == (status == 200)
    if status == 403:
        assert answer.json is not None
        assert answer.json["code"] == "forbidden"
        assert answer.json["error"].startswith("not from a page of another site")


def test_by_default_no_other_page_deletes() -> None:
    """As Ollama has it."""
    cache = Shelf("smol")
    assert delete(LocalRegistry(None, cache), Origin=CHAT).status_code == 403
    assert cache.names == {"smol"}


def test_a_star_stands_for_all_origins() -> None:
    """Also for pages that have none to speak of, but not for requests without any."""
    app = LocalRegistry(None, Shelf("smol"), origins=["*"])
    assert options(app, Origin="null").headers["Access-Control-Allow-Origin"] == "null"
    assert delete(app, Origin=EVIL).headers["Access-Control-Allow-Origin"] == EVIL
    answer = delete(app)
    assert (answer.status_code, answer.headers["Vary"]) == (404, "Origin")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_can_read_the_answers_that_it_may_have(tree: Tree) -> None:
    """Errors and streams too; a cache in between keeps the answers of two origins apart."""

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> bool:
        if action == "delete":
            raise Unauthorized("a token is needed")
        return True

    cache = ModelCache(DiskStore(tree.root))
    app = LocalRegistry(None, cache, maintenance=True, authorize=authorize, origins=[CHAT])
    client = Client(app)
    answers = [
        client.delete("/api/delete", json={"model": "smol"}, headers={"Origin": CHAT}),
        client.get("/api/deleted", headers={"Origin": CHAT}),
        client.post("/api/prune", json={"stream": True}, headers={"Origin": CHAT}, buffered=True),
        client.get("/absent", headers={"Origin": CHAT}),
    ]
    assert [answer.status_code for answer in answers] == [401, 200, 200, 404]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == CHAT
        assert answer.headers["Vary"] == "Origin"
    answer = client.get("/api/deleted", headers={"Origin": EVIL})
    assert (answer.status_code, answer.headers["Vary"]) == (200, "Origin")
    assert "Access-Control-Allow-Origin" not in answer.headers


# Settings


@pytest.mark.parametrize(
    "origin", ["", "chat.example", "https://", "https://x/y", "null", "https://a b", "https://a,b"]
)
def test_what_is_no_origin_is_refused_at_the_start(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than nobody let in, or everybody."""
    with pytest.raises(ConfigurationError, match="not an origin"):
        LocalRegistry(None, Shelf(), origins=[origin])
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    monkeypatch.setenv("REGISTRY_WSGI_ORIGINS", f"{CHAT}, {origin}")
    with pytest.raises(ConfigurationError, match=r"^REGISTRY_WSGI_ORIGINS: .*not an origin"):
        create_app()


def test_the_environment_can_name_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With commas between them; some are of other schemes."""
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    monkeypatch.setenv("REGISTRY_WSGI_ORIGINS", f"{CHAT}, app://obsidian.md")
    for origin in (CHAT, "app://obsidian.md"):
        assert delete(create_app(), Origin=origin).status_code == 404
    assert delete(create_app(), Origin=EVIL).status_code == 403


def test_where_no_host_is_named_no_page_is_of_it() -> None:
    """A page of no origin, in a frame say, is not that of a request without ``Host``."""
    shelf = Shelf()
    environ = EnvironBuilder("/api/delete", method="DELETE", json={"model": "smol"}).get_environ()
    del environ["HTTP_HOST"]
    environ["HTTP_ORIGIN"] = "null"
    assert run_wsgi_app(LocalRegistry(None, shelf), environ)[1] == "403 FORBIDDEN"
