"""The status in the log is the one that the client got, whatever happens to an answer."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.wrappers import Response

from kit.asking import SMOL, Shelf, ask, bare, hello
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache
from registry_wsgi.http.maintenance import Stream
from registry_wsgi.http.status import StatusRecorder

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Outcome = tuple[str, int, int]


class Server:
    """A server by the book: it may fail, and raises ``exc_info`` once the headers are sent."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[Any, ...]] = []
        self.sent: list[bytes] = []

    def start_response(self, *arguments: Any) -> Callable[[bytes], object]:
        if self.error is not None:
            raise self.error
        if len(arguments) == 3 and self.sent:
            raise arguments[2][1]
        self.calls.append(arguments)
        return self.sent.append

    def serve(self, app: Any, body: bytes = SMOL, **environ: Any) -> None:
        """Serve one request to its end."""
        answer = app(environ_of_a_delete(body) | environ, self.start_response)
        try:
            for chunk in answer:
                self.sent.append(chunk)
        finally:
            if hasattr(answer, "close"):
                answer.close()


def environ_of_a_delete(body: bytes = SMOL) -> dict[str, Any]:
    """A request, as bare as can be."""
    environ = {"REQUEST_METHOD": "DELETE", "PATH_INFO": "/api/delete"}
    return environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def refusing(response: Response | None) -> Callable[..., bool]:
    """An `authorize` that answers with *response*."""

    def authorize(environ: WSGIEnvironment, action: str, name: str) -> NoReturn:
        raise Forbidden("go away", response=response)

    return authorize


def outcome(caplog: pytest.LogCaptureFixture) -> Outcome:
    """The one record: its message, its level and its status."""
    (record,) = caplog.records
    return record.getMessage(), record.levelno, vars(record)["status"]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No level hides a record."""
    caplog.set_level(logging.DEBUG)


# Answers that other code makes


@pytest.mark.parametrize(
    ("status", "level"),
    [(302, logging.INFO), (418, logging.WARNING), (503, logging.ERROR)],
)
def test_an_exception_with_a_response_of_its_own_is_logged_with_its_status(
    status: int, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with the status of the exception's class."""
    app = LocalRegistry(hello, Shelf("smol"), authorize=refusing(Response("no", status)))
    assert ask(app).status_int == status
    assert outcome(caplog) == (f"DELETE /api/delete {status} go away", level, status)


class ChangesItsMind(Response):
    """A response whose status is another by the time it is sent."""

    def get_wsgi_response(self, environ: WSGIEnvironment) -> Any:
        body, _, headers = super().get_wsgi_response(environ)
        return body, "503 Service Unavailable", headers


class FailsBeforeItsBody(Response):
    """A response that replaces its status after a failure, while nothing is sent yet."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("403 Forbidden", [("X-Try", "1")])
        try:
            raise RuntimeError("no body")
        except RuntimeError:
            start_response("502 Bad Gateway", [("X-Try", "2")], sys.exc_info())
        yield b"sorry"


class FailsInItsBody(FailsBeforeItsBody):
    """A response that wants to replace its status when it is sent already."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("403 Forbidden", [])(b"written")
        yield b"first"
        try:
            raise RuntimeError("no rest")
        except RuntimeError:
            start_response("502 Bad Gateway", [], sys.exc_info())


class FailsAtOnce(Response):
    """A response that never gets as far as a status."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield from ()
        raise RuntimeError("nothing at all")


def test_a_response_that_changes_its_status_is_logged_with_the_one_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the response object says is not what counts."""
    app = LocalRegistry(hello, Shelf(), authorize=refusing(ChangesItsMind(status=403)))
    assert ask(app).status_int == 503
    assert outcome(caplog)[1:] == (logging.ERROR, 503)


def test_a_status_that_replaces_another_is_the_one_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """``exc_info`` reaches the server with the new headers, and the last status counts."""
    server = Server()
    server.serve(LocalRegistry(None, Shelf(), authorize=refusing(FailsBeforeItsBody(status=403))))
    first, last = server.calls
    assert first == ("403 Forbidden", [("X-Try", "1")])
    assert last[:2] == ("502 Bad Gateway", [("X-Try", "2")])
    assert str(last[2][1]) == "no body"
    assert server.sent == [b"sorry"]
    assert outcome(caplog) == ("DELETE /api/delete 502 go away", logging.ERROR, 502)


def test_after_the_headers_the_status_stays_the_one_that_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server raises the exception; it is in the record beside the status of the headers."""
    server = Server()
    with pytest.raises(RuntimeError, match="no rest"):
        server.serve(LocalRegistry(None, Shelf(), authorize=refusing(FailsInItsBody(status=403))))
    assert [call[0] for call in server.calls] == ["403 Forbidden"]
    assert server.sent == [b"written", b"first"]
    assert outcome(caplog) == ("DELETE /api/delete 403 no rest", logging.ERROR, 403)
    assert caplog.records[0].exc_info is not None


def test_a_response_that_fails_before_any_status_is_the_500_that_the_server_makes_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is neither a 200 nor left out of the log."""
    with pytest.raises(RuntimeError, match="nothing at all"):
        Server().serve(LocalRegistry(None, Shelf(), authorize=refusing(FailsAtOnce(status=403))))
    assert outcome(caplog) == ("DELETE /api/delete 500 nothing at all", logging.ERROR, 500)


def test_a_body_that_nobody_reads_to_its_end_is_closed_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the response wants done at its close is done, and there is one record."""
    closed: list[bool] = []
    response = Response(iter([b"first", b"second"]), 403)
    response.call_on_close(lambda: closed.append(True))
    app = LocalRegistry(None, Shelf(), authorize=refusing(response))
    answer = app(environ_of_a_delete(), Server().start_response)
    assert next(iter(answer)) == b"first"
    assert caplog.records == []
    answer.close()  # type: ignore[attr-defined]
    assert closed == [True]
    assert outcome(caplog)[1:] == (logging.WARNING, 403)


# The server


@pytest.mark.parametrize(
    ("body", "deleted"), [(SMOL, True), (b'{"model":"absent"}', False), (b"{", False)]
)
def test_a_server_that_takes_no_answer_is_in_the_log(
    body: bytes, deleted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception goes back to it; the model may be deleted, so the record cannot lack."""
    cache = Shelf("smol")
    with pytest.raises(OSError, match="gone"):
        Server(OSError("gone")).serve(LocalRegistry(None, cache), body)
    assert cache.names == (set() if deleted else {"smol"})
    assert outcome(caplog) == ("DELETE /api/delete 500 gone", logging.ERROR, 500)
    assert caplog.records[0].exc_info is not None


def test_a_stream_is_logged_with_the_status_that_it_began_with(
    tree: Tree, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune that streams passes the recorder as any answer does."""
    monkeypatch.setattr(Stream, "default_status", 202)
    app = LocalRegistry(None, ModelCache(DiskStore(tree.root)), maintenance=True)
    server = Server()
    server.serve(app, b'{"stream":true}', REQUEST_METHOD="POST", PATH_INFO="/api/prune")
    assert [call[0] for call in server.calls] == ["202 ACCEPTED"]
    assert b'"success"' in server.sent[-1]
    assert outcome(caplog) == ("POST /api/prune 202", logging.INFO, 202)


def test_a_stream_that_the_server_does_not_take_is_in_the_log(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, as an error; the prune ends all the same, and another can begin."""
    app = LocalRegistry(None, ModelCache(DiskStore(tree.root)), maintenance=True)
    request = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/prune"}
    with pytest.raises(OSError, match="gone"):
        Server(OSError("gone")).serve(app, b'{"stream":true}', **request)
    assert outcome(caplog) == ("POST /api/prune 500 gone", logging.ERROR, 500)


def test_the_observer_is_told_the_status_that_was_sent() -> None:
    """It counts what clients got."""
    told: list[tuple[str, str, int]] = []

    class Counting:
        def answered(self, method: str, path: str, status: int) -> None:
            told.append((method, path, status))

        deleted = restored = pruned = staticmethod(lambda *_, **__: None)

    authorize = refusing(ChangesItsMind(status=403))
    assert (
        ask(LocalRegistry(None, Shelf(), authorize=authorize, observer=Counting())).status_int
        == 503
    )
    assert told == [("DELETE", "/api/delete", 503)]


def test_what_passes_through_is_not_wrapped(caplog: pytest.LogCaptureFixture) -> None:
    """The app gets the server's own ``start_response``."""
    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.append(start_response)
        return hello(environ, start_response)

    assert bare(LocalRegistry(app, Shelf()), PATH_INFO="/")[0] == 200
    assert not isinstance(seen[0], StatusRecorder)
    assert caplog.records == []


# The recorder by itself


def test_the_recorder_passes_everything_on() -> None:
    """Status, headers and ``exc_info`` go to the server; its ``write`` comes back."""
    server = Server()
    recorder = StatusRecorder(server.start_response)
    assert (recorder.status, recorder.started) == (200, False)
    headers = [("A", "b")]
    assert recorder("404 Not Found", headers) == server.sent.append
    assert (recorder.status, recorder.started) == (404, True)
    assert server.calls[0][1] is headers
    error = HTTPException()
    info = (type(error), error, None)
    recorder("500 Oops", [], info)  # type: ignore[arg-type]
    assert server.calls == [("404 Not Found", headers), ("500 Oops", [], info)]
    assert recorder.status == 500


def test_the_recorder_forgets_what_the_server_refused() -> None:
    """A status that never reaches a client is none."""
    recorder = StatusRecorder(Server(ValueError("bad header")).start_response)
    with pytest.raises(ValueError, match="bad header"):
        recorder("201 Created", [])
    assert (recorder.status, recorder.started) == (200, False)
