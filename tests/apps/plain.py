"""A plain WSGI app, with a path for each thing that a WSGI app may do."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from apps.helpers import either, note, wait

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TEXT = [("Content-Type", "text/plain")]


class Noted:
    """An iterable that notes that it was closed."""

    def __init__(self, chunks: Iterable[bytes], notes: str) -> None:
        self._chunks = iter(chunks)
        self._notes = notes

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        note(self._notes, "closed")


class NotedFile(io.FileIO):
    """A file that notes that Python read it, which a server that knows a file need not do."""

    def __init__(self, file: str, notes: str) -> None:
        super().__init__(file)
        self._notes = notes

    def read(self, size: int | None = -1, /) -> bytes:
        note(self._notes, "read")
        return super().read(size)

    def close(self) -> None:
        if not self.closed:
            note(self._notes, "closed")
        super().close()


def stream(query: dict[str, str], start_response: StartResponse, environ: Any) -> Iterable[bytes]:
    length = [("Content-Length", "7")] if environ["PATH_INFO"] == "/sized" else []
    start_response("200 OK", [*TEXT, *length])

    def chunks() -> Iterator[bytes]:
        yield b"first "
        yield wait(query["signal"])

    return Noted(chunks(), query["notes"])


def write(query: dict[str, str], start_response: StartResponse, _: Any) -> Iterable[bytes]:
    send = start_response("200 OK", TEXT)
    send(b"first ")
    send(wait(query["signal"]))
    return [b" last"]


def file(query: dict[str, str], start_response: StartResponse, environ: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    content = NotedFile(query["file"], query["notes"])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](content)
    return wrapped


def error(query: dict[str, str], start_response: StartResponse, _: Any) -> Iterable[bytes]:
    raise RuntimeError("raised by the app")


def late_error(query: dict[str, str], start_response: StartResponse, _: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)

    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("raised by the app, late")

    return Noted(chunks(), query["notes"])


def replaced(query: dict[str, str], start_response: StartResponse, _: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    try:
        raise RuntimeError("taken back")
    except RuntimeError:
        start_response("503 Later", TEXT, sys.exc_info())
    return [b"try later"]


def body(query: dict[str, str], start_response: StartResponse, environ: Any) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read()]


def missing(query: dict[str, str], start_response: StartResponse, environ: Any) -> Iterable[bytes]:
    headers = [("X-App", "plain"), ("X-Host", environ.get("HTTP_HOST", ""))]
    start_response("404 Not Found", [*TEXT, *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"the app has no such page"]


PAGES: dict[str, Callable[[dict[str, str], StartResponse, Any], Iterable[bytes]]] = {
    "/stream": stream,
    "/sized": stream,
    "/write": write,
    "/file": file,
    "/error": error,
    "/late-error": late_error,
    "/replaced": replaced,
    "/body": body,
}


def bare(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    page = PAGES.get(environ["PATH_INFO"], missing)
    return page(dict(parse_qsl(environ["QUERY_STRING"])), start_response, environ)


app = either(bare)
