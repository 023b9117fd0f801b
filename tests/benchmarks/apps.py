"""A tiny app, alone and with the middleware around it, for gunicorn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from registry_wsgi import LocalRegistry, MemoryStore, ModelCache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "5")]


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer anything."""
    start_response("200 OK", _HEADERS)
    return [b"hello"]


class Empty:
    """The least that a middleware for one path can do."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/api/delete":
            return self.app(environ, start_response)
        return []


wrapped = LocalRegistry(plain, ModelCache(MemoryStore()))
