"""An answer for ``/`` where the middleware wraps no app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["FrontPage"]

_TEXT = "registry-wsgi is running. It deletes models: DELETE /api/delete\n"


class FrontPage:
    """
    A WSGI app that answers ``GET /`` and ``HEAD /`` itself, and passes all else to *app*.

    Ollama's own command sends ``HEAD /`` before anything else, to see that a server is running.

    Args:
        app: The WSGI app for all other requests.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in ("", "/") and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return Response(_TEXT, mimetype="text/plain")(environ, start_response)
        return self.app(environ, start_response)
