"""What an app does reaches the client as if the middleware before it were not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from kit.requirements import require
from kit.servers import App, Serve, Server, request, staged, wait_for

APPS = {"plain": (), "flask_app": ("flask",), "django_app": ("django",)}


@pytest.fixture(scope="session")
def servers() -> dict[tuple[str, str], Server]:
    """The servers that have been started, by kind and app."""
    return {}


@pytest.fixture
def app(
    request: pytest.FixtureRequest,
    kind: str,
    serve: Serve,
    servers: dict[tuple[str, str], Server],
    tmp_path: Path,
) -> Iterator[App]:
    """The plain app, or the one that the test asks for, behind each kind of server."""
    name = getattr(request, "param", "plain")
    require(*APPS[name])
    if (kind, name) not in servers:
        servers[kind, name] = serve(kind, f"apps.{name}:app")
    with staged(servers[kind, name], tmp_path) as app:
        yield app


every_app = pytest.mark.parametrize("app", list(APPS), indirect=True)
both_ways = pytest.mark.parametrize("headers", [{}, {"X-Bare": "1"}], ids=["wrapped", "bare"])


@every_app
@both_ways
def test_the_first_chunk_arrives_before_the_app_makes_the_second(
    app: App, headers: dict[str, str]
) -> None:
    """The app waits, before its second chunk, for a signal that follows the first one's arrival."""
    with app.server.connect() as connection:
        connection.sendall(request("GET", app.target("/stream"), headers=headers))
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.read(6) == b"first "
            app.go_on()
            assert response.read() == b"!"


@both_ways
def test_what_the_app_writes_arrives_at_once(app: App, headers: dict[str, str]) -> None:
    """The callable that start_response returns sends, and what the app returns comes after it."""
    with app.server.connect() as connection:
        connection.sendall(request("GET", app.target("/write"), headers=headers))
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.read(6) == b"first "
            app.go_on()
            assert response.read() == b"! last"


@every_app
def test_the_response_is_closed_at_its_end(app: App) -> None:
    """The server calls close() on the app's own iterable once all is sent."""
    app.go_on()
    answer = app.server.request("GET", app.target("/stream"))

    assert answer.body == b"first !"
    assert wait_for(app.noted, "close()") == ["closed"]


@every_app
def test_the_response_is_closed_when_the_client_goes_away(app: App) -> None:
    """A client that leaves in the middle does not keep the app's iterable from being closed."""
    with app.server.connect() as connection:
        connection.sendall(request("GET", app.target("/stream")))
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.read(6) == b"first "
    app.go_on()

    assert wait_for(app.noted, "close()") == ["closed"]


def test_a_response_is_closed_when_the_app_fails_in_its_middle(app: App) -> None:
    """The iterable that raises is closed, and the server's log has what it raised."""
    app.server.exchange(request("GET", app.target("/late-error")))

    assert wait_for(app.noted, "close()") == ["closed"]
    assert "raised by the app, late" in app.server.new_output()


def test_a_file_is_sent_as_a_file(app: App) -> None:
    """The server recognizes its wsgi.file_wrapper: with the middleware as without it."""
    wrapped, bare = app.both("GET", "/file")

    assert b"content\n" * 10_000 in wrapped
    assert wrapped == bare
    closed = wait_for(lambda: [n for n in app.noted() if n == "closed"][1:], "both to be closed")
    assert closed == ["closed"]
    if app.server.kind.startswith("gunicorn"):  # which hands a file to the kernel
        assert app.noted() == ["closed", "closed"]
    else:  # which knows the length of a file, and of no other iterable
        assert b"\r\nContent-Length: 80000\r\n" in wrapped


@every_app
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_before_the_response_is_the_servers_matter(app: App, method: str) -> None:
    """The client gets the same bytes as without the middleware, and the log has the traceback."""
    wrapped, bare = app.both(method, "/error")

    assert wrapped == bare
    assert wrapped.startswith((b"HTTP/1.1 500 ", b"HTTP/1.0 500 "))
    output = app.server.new_output()
    assert output.count("RuntimeError: raised by the app") == 2


def test_an_error_in_the_middle_of_the_response_is_the_servers_matter(app: App) -> None:
    """The client gets the same bytes as without the middleware: the first chunk, and no end."""
    wrapped, bare = app.both("GET", "/late-error")

    assert wrapped == bare
    assert b"first" in wrapped


def test_an_app_can_take_its_response_back(app: App) -> None:
    """Calling start_response again with exc_info replaces what has not been sent."""
    wrapped, bare = app.both("GET", "/replaced")

    assert wrapped == bare
    assert b" 503 Later\r\n" in wrapped


@every_app
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", ["/absent", "/api/delete/", "/v1/api/delete"])
def test_the_apps_own_404_is_passed_through(app: App, method: str, path: str) -> None:
    """Status, headers and page are the app's own."""
    wrapped, bare = app.both(method, path)

    assert wrapped == bare
    assert wrapped.startswith(b"HTTP/1.1 404 ")
    assert b'"code"' not in wrapped


@pytest.mark.parametrize("app", ["plain", "flask_app"], indirect=True)  # Django leaves it to others
def test_an_app_that_leaves_out_the_body_for_head_still_does(app: App) -> None:
    """A HEAD is passed through as a HEAD."""
    wrapped, bare = app.both("HEAD", "/absent")

    assert wrapped == bare
    assert wrapped.endswith(b"\r\n\r\n")


@every_app
def test_the_app_gets_a_large_body_whole(app: App) -> None:
    """The middleware's limit is for its own path: elsewhere not a byte of the body is touched."""
    body = os.urandom(200_000)
    answer = app.server.request("POST", "/body", body)

    assert (answer.status, answer.body) == (200, body)


@every_app
def test_the_delete_path_is_the_middlewares_own(app: App) -> None:
    """With the middleware the app never sees /api/delete; without it, it does."""
    wrapped, bare = app.both("DELETE", "/api/delete", b'{"model": "absent"}')

    assert wrapped.endswith(b'{"code": "not_found", "error": "model not found"}')
    assert bare.startswith(b"HTTP/1.1 404 ")
    assert b"model not found" not in bare
