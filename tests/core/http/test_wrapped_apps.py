"""Real apps of the frameworks that people wrap: deletes work, and their own routes do as before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from webtest import TestApp

from kit.requirements import require
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Events = list[str]


def chunks(events: Events) -> Iterator[bytes]:
    """A stream that tells what it does."""
    try:
        for number in range(3):
            events.append(f"made {number}")
            yield b"chunk %d" % number
    finally:
        events.append("closed")


def flask_app(events: Events) -> WSGIApplication:
    """A Flask app."""
    require("flask")
    from flask import Flask, Response, request

    app = Flask("wrapped")
    app.testing = True  # exceptions go to the server

    @app.get("/hello/<name>")
    def hello(name: str) -> str:
        return f"hello {name}"

    @app.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    @app.get("/stream")
    def stream() -> Response:
        return Response(chunks(events), mimetype="application/octet-stream")

    @app.get("/boom")
    def boom() -> str:
        raise ZeroDivisionError

    @app.delete("/api/delete/<name>")
    def delete(name: str) -> tuple[str, int]:
        return f"the app's own {name}", 202

    @app.delete("/api/delete")
    def hidden() -> str:
        raise AssertionError

    return app


def django_app(events: Events) -> WSGIApplication:
    """A Django app."""
    require("django")
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], DEBUG_PROPAGATE_EXCEPTIONS=True, SECRET_KEY="x")

    class Urls:
        """What a module of URLs is to Django; another for each app, as it remembers them."""

        urlpatterns = (
            path("hello/<name>", lambda request, name: HttpResponse(f"hello {name}")),
            path("echo", lambda request: HttpResponse(request.body)),
            path("stream", lambda request: StreamingHttpResponse(chunks(events))),
            path("boom", lambda request: HttpResponse(1 / 0)),
            path(
                "api/delete/<name>",
                lambda request, name: HttpResponse(f"the app's own {name}", status=202),
            ),
            path("api/delete", lambda request: HttpResponse(1 / 0)),
        )

    settings.ROOT_URLCONF = Urls
    import django

    django.setup(set_prefix=False)
    app: WSGIApplication = WSGIHandler()
    return app


class Wrapped(NamedTuple):
    """An app with the middleware around it, and what its stream has done."""

    app: WSGIApplication
    events: Events


@pytest.fixture(params=[flask_app, django_app])
def wrapped(request: pytest.FixtureRequest, tree: Tree) -> Wrapped:
    """The app of each framework, with the validator of PEP 3333 on both sides."""
    tree.add("smol", b"weights")
    events: Events = []
    app = validator(request.param(events))
    return Wrapped(validator(LocalRegistry(app, ModelCache(DiskStore(tree.root)))), events)


def test_a_wrapped_app_deletes_models(wrapped: Wrapped, tree: Tree) -> None:
    """The path of ours is answered before the app's own route, for all methods."""
    client = TestApp(wrapped.app, lint=False)
    assert client.delete_json("/api/delete", {"model": "smol"}, status=200).body == b""
    assert not tree.path("smol").exists()
    assert client.delete_json("/api/delete", {"model": "smol"}, status=404).json == {
        "code": "not_found",
        "error": "model not found",
    }
    assert client.get("/api/delete", status=405).headers["Allow"] == "DELETE"


def test_a_wrapped_app_keeps_its_own_routes(wrapped: Wrapped, tree: Tree) -> None:
    """Other paths, bodies, statuses and exceptions are the app's."""
    before = tree.files()
    client = TestApp(wrapped.app, lint=False)
    assert client.get("/hello/w%C3%B6rld").text == "hello wörld"
    body = "body" * 25_000  # more than a delete may have
    assert client.post("/echo", body, content_type="text/plain").text == body
    assert client.delete("/api/delete/smol", status=202).text == "the app's own smol"
    assert client.get("/absent", status=404).content_type == "text/html"
    with pytest.raises(ZeroDivisionError):
        client.get("/boom", expect_errors=True)
    assert tree.files() == before


@pytest.mark.parametrize("read", [1, 3])
def test_a_wrapped_app_streams(wrapped: Wrapped, read: int) -> None:
    """Each chunk is there before the next is made, and close() reaches the app early or late."""
    environ: dict[str, Any] = {"PATH_INFO": "/stream", "SCRIPT_NAME": "", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    statuses: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
        statuses.append(status)

    answer = wrapped.app(environ, start_response)
    found = iter(answer)
    for number in range(read):
        assert next(found) == b"chunk %d" % number
        assert wrapped.events == [f"made {n}" for n in range(number + 1)]
    assert statuses == ["200 OK"]
    answer.close()  # type: ignore[attr-defined]
    assert wrapped.events[read:] == ["closed"]
