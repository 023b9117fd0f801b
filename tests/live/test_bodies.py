"""Bodies in pieces, too long, too short, broken or never: nothing is deleted by mistake."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import ExitStack, suppress

import pytest

from kit.recorded import fill
from kit.servers import GUNICORN, THREADED, Answer, Registry, read_answer, request

BODY = b'{"model": "smol"}'
LARGEST = 65_536


@pytest.fixture(autouse=True)
def filled(registry: Registry) -> None:
    """There is a model to delete."""
    fill(registry.tree)


def head(*headers: str, method: str = "DELETE") -> bytes:
    """The head of a request with these headers and no others but the host."""
    lines = [f"{method} /api/delete HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def send_and_end(registry: Registry, message: bytes) -> Answer | None:
    """Send *message* and, as a client that has gone away, nothing more; read what comes back."""
    with registry.server.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def read_interim(connection: socket.socket) -> None:
    """Read the 100 Continue, and not a byte more."""
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        received = connection.recv(1)
        assert received, interim
        interim += received
    assert interim.startswith(b"HTTP/1.1 100 ")


def check_refused(registry: Registry, answer: Answer | None) -> None:
    """The server or the middleware says that it is the client's mistake, or hangs up."""
    assert answer is None or 400 <= answer.status < 500, answer
    assert registry.has("smol")
    assert not registry.tree.trash.exists()
    assert "Traceback" not in registry.server.new_output()
    assert {record["level"] for record in registry.logged()} <= {"WARNING"}


@pytest.mark.parametrize(
    "chunks",
    [
        [BODY],
        [BODY[:3], BODY[3:9], BODY[9:]],
        [bytes([byte]) for byte in BODY],
        [BODY, b" " * (LARGEST - len(BODY))],
    ],
    ids=["one", "three", "single bytes", "the largest"],
)
def test_a_chunked_body_deletes(registry: Registry, chunks: list[bytes]) -> None:
    """A body without Content-Length is read to its end."""
    answer = registry.server.request("DELETE", "/api/delete", chunks=chunks)

    assert (answer.status, answer.body) == (200, b"")
    assert not registry.has("smol")


def test_a_body_in_several_packets_deletes(registry: Registry) -> None:
    """A body is read to its Content-Length, however it arrives."""
    with registry.server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = request("DELETE", "/api/delete", BODY)
        for start in range(0, len(message), 7):
            connection.sendall(message[start : start + 7])
        answer = read_answer(connection)

    assert answer is not None
    assert answer.status == 200
    assert not registry.has("smol")


def test_a_body_of_the_largest_size_deletes(registry: Registry) -> None:
    """64 KiB are allowed."""
    answer = registry.server.request("DELETE", "/api/delete", BODY.ljust(LARGEST))

    assert answer.status == 200
    assert not registry.has("smol")


@pytest.mark.parametrize("size", [LARGEST + 1, 100_000, 8_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_larger_body_is_answered_413(registry: Registry, size: int, chunked: bool) -> None:
    """The client gets the answer although its body has not been read to the end."""
    body = BODY.ljust(size)
    chunks = [body[start : start + 8_000] for start in range(0, size, 8_000)] if chunked else None
    answer = registry.server.request("DELETE", "/api/delete", body, chunks=chunks)

    assert answer.status == 413
    assert json.loads(answer.body)["code"] == "content_too_large"
    assert registry.has("smol")
    assert [record["status"] for record in registry.logged()] == [413]


@pytest.mark.parametrize(
    "message",
    [
        head("Content-Length: 100000"),
        head("Transfer-Encoding: chunked") + b"186a0\r\n" + BODY.ljust(70_000),
    ],
    ids=["length", "chunked"],
)
# Waitress has the whole body before it calls an app.
@pytest.mark.parametrize("kind", GUNICORN, indirect=True, scope="session")
def test_413_does_not_wait_for_the_rest_of_the_body(registry: Registry, message: bytes) -> None:
    """Once it is clear that the body is too large, no more of it is read."""
    with registry.server.connect() as connection:
        connection.sendall(message)
        answer = read_answer(connection, "DELETE")

    assert answer is not None
    assert answer.status == 413


@pytest.mark.parametrize("size", [100, 100_000, 8_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_another_method_is_answered_405_whatever_its_body(
    registry: Registry, size: int, chunked: bool
) -> None:
    """The client gets the answer although its body has not been read at all."""
    body = BODY.ljust(size)
    chunks = [body[start : start + 8_000] for start in range(0, size, 8_000)] if chunked else None
    answer = registry.server.request("POST", "/api/delete", body, chunks=chunks)

    assert answer.status == 405
    assert answer.header("Allow") == "DELETE"
    assert json.loads(answer.body)["code"] == "method_not_allowed"
    assert registry.has("smol")


def test_head_is_answered_405_with_nothing_after_the_headers(registry: Registry) -> None:
    """Not a byte of body goes out, also under a server that would send one."""
    received = registry.server.exchange(request("HEAD", "/api/delete"))

    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.endswith(b"\r\n\r\n")
    assert b"\r\nAllow: DELETE\r\n" in received


def test_a_body_shorter_than_its_length_deletes_nothing(registry: Registry) -> None:
    """Complete JSON is not enough: the client has announced more than it has sent."""
    answer = send_and_end(registry, head("Content-Length: 100") + BODY)

    check_refused(registry, answer)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_length_that_cuts_the_json_deletes_nothing(registry: Registry, connection: str) -> None:
    """What comes after the announced length is not read as part of the body."""
    message = head("Content-Length: 16", f"Connection: {connection}") + BODY
    answer = send_and_end(registry, message)

    assert answer is not None
    assert answer.status == 400
    check_refused(registry, answer)


def test_a_request_inside_of_a_refused_body_is_not_served(registry: Registry) -> None:
    """On a connection that stays open, an unread body does not become the next request."""
    hidden = head(f"Content-Length: {len(BODY)}") + BODY
    message = head(f"Content-Length: {len(hidden)}", method="POST") + hidden
    with registry.server.connect() as connection:
        connection.sendall(message)
        first = read_answer(connection, "POST")
        with suppress(ConnectionError):
            connection.sendall(request("PUT", "/api/delete"))
        second = read_answer(connection, "PUT")

    assert first is not None
    assert first.status == 405
    assert second is None or second.status == 405  # None: the server has closed the connection
    assert registry.has("smol")
    methods = [record["method"] for record in registry.logged()]
    assert methods == ["POST"] + ["PUT"] * (second is not None)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"-11\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"0x11\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"1_1\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"11\r\n" + BODY + b"XX0\r\n\r\n",
        b"20\r\n" + BODY,
        b"11\r\n" + BODY + b"\r\n",
        b"11\r\n" + BODY,
        b"11",
        b"",
    ],
    ids=[
        "no number",
        "negative",
        "prefix",
        "underscore",
        "no size",
        "huge",
        "too short",
        "no line end",
        "too long",
        "no last chunk",
        "no end",
        "size alone",
        "nothing",
    ],
)
def test_broken_chunks_delete_nothing(registry: Registry, body: bytes) -> None:
    """A chunked body that is cut off or not well-formed is the client's mistake: never a 500."""
    check_refused(registry, send_and_end(registry, head("Transfer-Encoding: chunked") + body))


@pytest.mark.parametrize(
    "length",
    ["-1", "+17", "17x", "17, 17", "", "\u0661\u0667", "9" * 30, "17\r\nContent-Length: 18"],
)
def test_a_length_that_is_none_deletes_nothing(registry: Registry, length: str) -> None:
    """A Content-Length that is no number, too large, or two, is the client's mistake."""
    check_refused(registry, send_and_end(registry, head(f"Content-Length: {length}") + BODY))


def test_no_length_is_no_body(registry: Registry) -> None:
    """Without Content-Length and Transfer-Encoding there is no body, so that nothing hangs."""
    answer = send_and_end(registry, head("Connection: close"))

    assert answer is not None
    assert answer.status == 400
    check_refused(registry, answer)


def test_length_and_chunks_together_are_no_500(registry: Registry) -> None:
    """The server refuses the request or goes by the chunks: in both cases as it says."""
    chunks = b"11\r\n" + BODY + b"\r\n0\r\n\r\n"
    message = head("Content-Length: 17", "Transfer-Encoding: chunked", "Connection: close")
    answer = send_and_end(registry, message + chunks)

    if answer is not None and answer.status == 200:
        assert registry.server.kind == "waitress"
        assert not registry.has("smol")
    else:
        check_refused(registry, answer)


def test_a_client_that_waits_for_100_continue_deletes(registry: Registry) -> None:
    """The body follows once the server has said that it wants it."""
    with registry.server.connect() as connection:
        headers = (f"Content-Length: {len(BODY)}", "Expect: 100-continue", "Connection: close")
        connection.sendall(head(*headers))
        read_interim(connection)
        connection.sendall(BODY)
        answer = read_answer(connection)

    assert answer is not None
    assert answer.status == 200
    assert not registry.has("smol")


@pytest.mark.parametrize("kind", THREADED, indirect=True, scope="session")  # sync: one at a time
def test_clients_that_stop_in_the_middle_do_not_hold_up_others(registry: Registry) -> None:
    """While three wait with half a body, a fourth deletes; theirs stay when they go away."""
    registry.tree.add("other", b"weights")
    with ExitStack() as stack:
        connections = [stack.enter_context(registry.server.connect()) for _ in range(3)]
        for connection in connections:
            connection.sendall(request("DELETE", "/api/delete", BODY)[:-5])

        assert registry.delete("other").status == 200

        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
        answers = [read_answer(connection) for connection in connections]

    assert all(answer is None or answer.status == 400 for answer in answers), answers
    assert registry.has("smol")
    assert not registry.has("other")


def test_a_client_that_goes_away_in_the_middle_is_no_error_of_ours(registry: Registry) -> None:
    """A connection that is reset while the body is awaited deletes nothing and is no 500."""
    with registry.server.connect() as connection:
        headers = (f"Content-Length: {len(BODY)}", "Expect: 100-continue")
        connection.sendall(head(*headers))
        read_interim(connection)
        linger = struct.pack("ii", 1, 0)  # for no time at all: closing resets the connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(BODY[:-5])

    if registry.server.kind == "waitress":  # which calls no app before it has the whole body
        assert registry.delete("absent").status == 404
    (record,) = registry.wait_for_log()
    assert record["level"] == "WARNING"
    assert registry.has("smol")
