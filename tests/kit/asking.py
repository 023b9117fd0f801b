"""Requests to the middleware, and the plainest cache and app to put behind it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from webtest import TestApp, TestResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SMOL = b'{"model":"smol"}'


class Shelf:
    """A cache as a stranger would write it: two methods and a set of names."""

    def __init__(self, *names: str) -> None:
        self.names = {*names}
        self.calls: list[str] = []

    def unlink(self, name: str) -> bool:
        self.calls.append(f"unlink {name}")
        try:
            self.names.remove(name)
        except KeyError:
            return False
        return True

    def prune(self) -> None:
        self.calls.append("prune")


def ask(app: WSGIApplication, body: bytes = SMOL, **environ: str) -> TestResponse:
    """What *app* answers to a delete, with the validator of PEP 3333 in front of it."""
    return TestApp(validator(app), lint=False).request(
        "/api/delete",
        environ={"REQUEST_METHOD": "DELETE"} | environ,
        body=body,
        expect_errors=True,
    )


def bare(app: WSGIApplication, body: bytes = SMOL, **environ: Any) -> tuple[int, bytes]:
    """What *app* answers to an environ that no validator lets pass."""
    everything: dict[str, Any] = {"REQUEST_METHOD": "DELETE", "PATH_INFO": "/api/delete"}
    everything |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    setup_testing_defaults(everything)
    everything |= environ
    statuses: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
        statuses.append(status)

    answer = b"".join(app(everything, start_response))
    (status,) = statuses
    return int(status[:3]), answer


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An app."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
