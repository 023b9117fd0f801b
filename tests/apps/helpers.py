"""What the apps share: the choice between wrapped and bare, and signals through the file system."""

from __future__ import annotations

import json
import logging
import os
import select
from collections.abc import Iterable
from typing import TYPE_CHECKING

from registry_wsgi import LocalRegistry, MemoryStore, ModelCache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def either(bare: WSGIApplication) -> WSGIApplication:
    """Serve *bare* behind the middleware, and by itself to a request with the header X-Bare."""
    wrapped = LocalRegistry(bare, ModelCache(MemoryStore()))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (bare if "HTTP_X_BARE" in environ else wrapped)(environ, start_response)

    return app


def wait(signal: str) -> bytes:
    """Wait until the test writes into the named pipe *signal*, and say whether it did."""
    pipe = os.open(signal, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ready, _, _ = select.select([pipe], [], [], 20)
        return os.read(pipe, 1) if ready else b"no signal"
    finally:
        os.close(pipe)


def note(path: str, text: str) -> None:
    """Leave a line for the test in the file *path*."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


class JSONLines(logging.Handler):
    """A log file with one JSON object a record."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            name: getattr(record, name)
            for name in ("error", "status", "method", "path", "content_length", "remote", "proto")
        }
        note(
            self._path,
            json.dumps({**fields, "level": record.levelname, "text": self.format(record)}),
        )
