"""A Flask app behind the middleware."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, request

from apps.helpers import either, note, wait

flask = Flask(__name__)


@flask.get("/stream")
def stream() -> Response:
    signal, notes = request.args["signal"], request.args["notes"]

    def chunks() -> Iterator[bytes]:
        yield b"first "
        yield wait(signal)

    response = Response(chunks(), mimetype="text/plain")
    response.call_on_close(lambda: note(notes, "closed"))
    return response


@flask.get("/error")
def error() -> str:
    raise RuntimeError("raised by the app")


@flask.post("/body")
def body() -> bytes:
    return request.get_data()


app = either(flask.wsgi_app)
