"""Tests of moto's server."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.test import create_environ, run_wsgi_app

from kit.races import race
from kit.requirements import require

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def test_one_request_is_answered_at_a_time() -> None:
    """A second request waits until the first is answered, and each gets its own body."""
    require("moto", "flask")
    from kit.moto_server import OneAtATime

    inside = threading.Semaphore(1)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert inside.acquire(blocking=False), "two at once"
        start_response("200 OK", [])
        yield environ["wsgi.input"].read()
        threading.Event().wait(0.01)
        inside.release()

    serial = OneAtATime(app)
    bodies = [b"%d" % number for number in range(4)]

    def ask(body: bytes) -> bytes:
        environ = create_environ(method="PUT", data=body)
        return b"".join(run_wsgi_app(serial, environ)[0])

    assert race(*[lambda body=body: ask(body) for body in bodies]) == bodies
