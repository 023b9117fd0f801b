"""A server that does not pass chunked bodies on: the one of the standard library."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from kit.asking import SMOL, Shelf
from kit.servers import LIMIT, Answer, read_answer, request
from registry_wsgi import LocalRegistry

pytestmark = pytest.mark.live


class Quiet(WSGIRequestHandler):
    """Logs nothing to stderr."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


@pytest.fixture
def shelf() -> Shelf:
    """A cache with one model."""
    return Shelf("smol")


@pytest.fixture
def server(shelf: Shelf) -> Iterator[WSGIServer]:
    """The server of wsgiref, over that cache."""
    app = LocalRegistry(None, shelf)
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(LIMIT)


def send(server: WSGIServer, message: bytes) -> Answer:
    """Send *message*, and read what comes back."""
    address = ("127.0.0.1", server.server_port)
    with socket.create_connection(address, timeout=LIMIT) as connection:
        connection.sendall(message)
        answer = read_answer(connection, "DELETE")
    assert answer is not None
    return answer


def test_a_chunked_body_is_answered_411_at_once(server: WSGIServer, shelf: Shelf) -> None:
    """With the reason, and without a wait for a body that would not end."""
    head = b"DELETE /api/delete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = send(server, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMOL), SMOL))
    assert answer.status == 411
    assert json.loads(answer.body)["code"] == "length_required"
    assert shelf.names == {"smol"}


def test_a_body_with_a_length_is_read(server: WSGIServer, shelf: Shelf) -> None:
    """As by any server; also one that a proxy has put together from chunks."""
    headers = {"Transfer-Encoding": "chunked"}
    assert send(server, request("DELETE", "/api/delete", SMOL, headers)).status == 200
    assert shelf.names == set()
    assert send(server, request("DELETE", "/api/delete", SMOL)).status == 404
