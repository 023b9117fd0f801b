"""
moto's server, on a free port, for one request at a time.

moto looks whether a conditional write (``If-None-Match``, ``If-Match``) may happen, and writes
afterwards. Between the two another thread of its server can write, and then both writes succeed.
S3 never lets two succeed, and the stores in buckets are built on that. So here a request waits
until the one before it is answered.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class OneAtATime:
    """A WSGI application that *app* serves, one request after the other."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Read before the lock is taken: a client that sends slowly holds up nobody else.
        environ["wsgi.input"] = io.BytesIO(get_input_stream(environ).read())
        with self._lock:
            return [b"".join(self._app(environ, start_response))]


if __name__ == "__main__":
    app = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", 0, OneAtATime(app), threaded=True, request_handler=MotoRequestHandler)
