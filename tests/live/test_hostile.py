"""
Requests that are made to be misread, at real servers and with nginx before one.

Where the servers differ, the tables say what each does. None of it may delete twice for one
request, delete by another path, change anything else in the store, or keep the next client waiting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import ExitStack

import pytest

from kit.servers import GUNICORN, KINDS, THREADED, Registry, read_answer, request
from kit.trees import HOST, contents


def at(*kinds: str) -> pytest.MarkDecorator:
    """Run the test at servers of these kinds."""
    return pytest.mark.parametrize("kind", kinds, indirect=True, scope="session")


BODY = b'{"model": "smol"}'
HIDDEN = b'{"model": "hidden"}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"11\r\n" + BODY + b"\r\n0\r\n\r\n"

EVERY = (*KINDS, "nginx")
ALONE = {"X-Alone": "1"}  # no app answers what the middleware does not


@pytest.fixture(autouse=True)
def before(registry: Registry) -> dict[str, bytes]:
    """The store with its models: one to delete, one that a second request deletes, and a third."""
    for name in ("smol", "hidden", "other"):
        registry.tree.add(name, b"weights", name.encode())
    return contents(registry.tree.root)


def head(*headers: str, version: str = "HTTP/1.1") -> bytes:
    """The head of a delete with these headers and no others but those of the tests."""
    lines = [f"DELETE /api/delete {version}", "Host: localhost", "X-Alone: 1", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def gone(registry: Registry) -> list[str]:
    """The models that have been deleted."""
    return [name for name in ("smol", "hidden", "other") if not registry.has(name)]


def check_the_rest(registry: Registry, before: dict[str, bytes]) -> None:
    """What has not been deleted is as it was, and a new connection is served."""
    deleted = {
        registry.tree.path(name).relative_to(registry.tree.root).as_posix()
        for name in gone(registry)
    }
    after = {
        path: data for path, data in contents(registry.tree.root).items() if path[:5] != "trash"
    }
    assert after == {path: data for path, data in before.items() if path not in deleted}
    assert registry.delete("other").status == 200
    assert "Traceback" not in registry.server.new_output()


# Where one request ends and the next begins


def chunked(body: bytes) -> bytes:
    """A delete whose body is in chunks, written so."""
    return head(CHUNKED) + body


# Each with the servers that may take the first request for what it says, and then read the next one
# or hang up; all others refuse it and hang up. Gunicorn has become stricter since its version 23.
# What nginx takes it sends on as it has understood it, and not as it got it.
FRAMES: dict[str, tuple[bytes, Collection[str]]] = {
    "plain": (head(LENGTH) + BODY, EVERY),
    "chunked": (chunked(CHUNKS), EVERY),
    "both, the length first": (head(LENGTH, CHUNKED) + CHUNKS, {"waitress"}),
    "both, the chunks first": (head(CHUNKED, LENGTH) + CHUNKS, {"waitress"}),
    "both, the length over all": (
        head(f"Content-Length: {len(CHUNKS) + 99}", CHUNKED) + CHUNKS,
        {"waitress"},
    ),
    "both, the length under all": (head("Content-Length: 4", CHUNKED) + CHUNKS, {"waitress"}),
    "a length twice": (head(LENGTH, LENGTH) + BODY, ()),
    "two lengths": (head(LENGTH, "Content-Length: 99") + BODY, ()),
    "two lengths, the longer first": (head("Content-Length: 99", LENGTH) + BODY, ()),
    "a list of lengths": (head(f"{LENGTH}, {len(BODY)}") + BODY, ()),
    "a sign": (head(f"Content-Length: +{len(BODY)}") + BODY, ()),
    "a space before the colon": (head(f"Content-Length : {len(BODY)}") + BODY, ()),
    "chunked, a space before the colon": (head("Transfer-Encoding : chunked") + CHUNKS, ()),
    "chunked, misspelt": (head("Transfer-Encoding: xchunked", LENGTH) + CHUNKS, ()),
    "chunked, in quotes": (head('Transfer-Encoding: "chunked"', LENGTH) + CHUNKS, ()),
    "chunked, not last": (head("Transfer-Encoding: chunked, identity", LENGTH) + CHUNKS, ()),
    "chunked, taken back": (head(CHUNKED, "Transfer-Encoding: identity", LENGTH) + CHUNKS, ()),
    "chunked, a vertical tab": (head("Transfer-Encoding: \x0bchunked", LENGTH) + CHUNKS, ()),
    "chunked, a NUL": (head("Transfer-Encoding: chunked\0", LENGTH) + CHUNKS, ()),
    "chunked, another space": (head("Transfer-Encoding: chunked\x85", LENGTH) + CHUNKS, ()),
    "chunked, a bare CR": (head(f"X: y\r{CHUNKED}", LENGTH) + CHUNKS, ()),
    "chunked, a bare LF": (head(f"X: y\n{CHUNKED}", LENGTH) + CHUNKS, ()),
    "chunked, folded": (head("Transfer-Encoding:\r\n chunked", LENGTH) + CHUNKS, {"waitress"}),
    "chunked, twice": (head(CHUNKED, CHUNKED, LENGTH) + CHUNKS, {"waitress"}),
    "chunked, a tab": (head("Transfer-Encoding:\tchunked", LENGTH) + CHUNKS, {"waitress"}),
    "chunked, in capitals": (head("Transfer-Encoding: CHUNKED", LENGTH) + CHUNKS, {"waitress"}),
    "chunked, in HTTP/1.0": (head(CHUNKED, LENGTH, version="HTTP/1.0") + CHUNKS, ()),
    "bare LF alone": (head(LENGTH).replace(b"\r\n", b"\n") + BODY, {"nginx"}),
    "a bare LF": (head(f"X: y\n{LENGTH}") + BODY, {"nginx"}),
    "a chunk's extension": (chunked(CHUNKS.replace(b"11\r", b'11;a=b;c="d;e"\r')), EVERY),
    "a line end in an extension": (
        chunked(CHUNKS.replace(b"11\r", b'11;a="\r')),
        {"nginx", *GUNICORN},
    ),
    "a bare LF in an extension": (chunked(CHUNKS.replace(b"11\r\n", b"11;a\n")), {"nginx"}),
    "a bare LF after a size": (chunked(CHUNKS.replace(b"11\r\n", b"11\n")), {"nginx"}),
    "a bare LF after a chunk": (chunked(CHUNKS.replace(b"}\r\n", b"}\n")), {"nginx"}),
    "a bare LF after the last chunk": (chunked(CHUNKS.replace(b"0\r\n\r\n", b"0\n\n")), {"nginx"}),
    "a space after a size": (chunked(CHUNKS.replace(b"11\r", b"11 \r")), {"nginx"}),
    "a trailer": (chunked(CHUNKS.replace(b"0\r\n", b"0\r\nX: y\r\n")), EVERY),
    "a length as a trailer": (
        chunked(CHUNKS.replace(b"0\r\n", b"0\r\nContent-Length: 99\r\n")),
        EVERY,
    ),
    "two hosts": (head("Host: evil.example", LENGTH) + BODY, KINDS),
}

# Those that nobody may refuse.
LEGAL = {"plain", "chunked", "a chunk's extension", "a trailer"}


@at(*EVERY)
@pytest.mark.parametrize("frame", FRAMES)
def test_a_request_ends_where_the_server_says_or_is_refused(
    registry: Registry, frame: str, before: dict[str, bytes]
) -> None:
    """
    A second delete follows, which one reading of the first has for its body and another does not.

    Each answer of 200 is the one delete of one model, in the order of the requests, and after a
    request that the server itself refuses it reads no further.
    """
    message, takers = FRAMES[frame]
    second = head(f"Content-Length: {len(HIDDEN)}") + HIDDEN
    end = request("GET", "/end", headers=ALONE)
    received = registry.server.exchange(message + second + end)

    statuses = [
        int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d+) ", received, re.MULTILINE)
    ]
    deleted = gone(registry)
    if statuses[:1] == [200]:
        assert registry.server.kind in takers
        assert statuses in ([200], [200, 200, 404])  # one that hangs up after each is fine
        assert deleted == ["smol", "hidden"][: statuses.count(200)]
    else:
        assert frame not in LEGAL
        assert statuses in ([400], [501], [])  # none: the reset took it along
        assert deleted == []
    assert [record["status"] for record in registry.logged()].count(200) == len(deleted)
    check_the_rest(registry, before)


@at(*EVERY)
def test_what_follows_a_body_that_is_not_read_is_no_request(
    registry: Registry, before: dict[str, bytes]
) -> None:
    """A delete inside of the body of another request, for another path, stays a body."""
    inside = head(f"Content-Length: {len(HIDDEN)}") + HIDDEN
    outside = request("GET", "/", inside, {"Connection": "keep-alive", **ALONE})
    registry.server.exchange(outside + request("GET", "/end", headers=ALONE))

    assert gone(registry) == []
    check_the_rest(registry, before)


# Paths

# Those that are /api/delete to all.
SAME = (
    *("/api/delete?x", "/api/delete??/../x", "/api/%64elete", "/api%2fdelete"),
    *("http://localhost/api/delete", "http://localhost:1/api/delete"),
)

# Each with the servers that may say it is /api/delete. A path is decoded once, by the server.
# Waitress takes any number of slashes at its beginning for one, and gunicorn 23 did not ask for the
# first one; the name in an absolute target counts for nginx alone.
TARGETS: dict[str, Collection[str]] = {
    **dict.fromkeys(SAME, EVERY),
    "http://evil.example/api/delete": KINDS,
    "http:///api/delete": KINDS,
    "//api/delete": {"waitress"},
    "///api/delete": {"waitress"},
    "%2fapi%2fdelete": KINDS,
    **dict.fromkeys(
        [
            *("//evil.example/api/delete", "/api//delete", "/api/./delete", "/./api/delete"),
            *("/api/../api/delete", "/api/x/../delete", "/api/%2e/delete", "/%2e%2e/api/delete"),
            *("/api%2f..%2fapi%2fdelete", "/api/delete/", "/api/delete%2f", "/api/delete/."),
            *("/api/delete%00", "/api/delete\0", "/api/delete%0a", "/api/delete%20", "/API/delete"),
            *("/api/delete;x=y", "/api/delete%3fx", "/api/delete%23x", "/api\\delete", "*", ""),
            *("/api%252fdelete", "/api/%2564elete", "/api/delet%65%", "/api/%u0064elete"),
            *("api/delete", "http://localhost", "/api/%c0%afdelete", "/api/d\xe9lete", "?"),
            *("/api/delete" + "/" * 9_000, "/a/.." * 1_000 + "/api/delete", "/" + "a" * 70_000),
        ],
        (),
    ),
}


@at(*EVERY)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: ascii(target)[1:40])
def test_only_the_exact_path_deletes(
    registry: Registry, target: str, before: dict[str, bytes]
) -> None:
    """Any other that might be taken for it is another path, or no path at all."""
    line = b"DELETE %b HTTP/1.1\r\n" % target.encode("latin-1")
    message = head(LENGTH, "Connection: close").replace(b"DELETE /api/delete HTTP/1.1\r\n", line)
    answer = registry.server.send(message + BODY)

    if answer is not None and answer.status == 200:
        assert registry.server.kind in TARGETS[target]
        assert gone(registry) == ["smol"]
    else:
        assert target not in SAME
        assert answer is None or 400 <= answer.status < 500
        assert gone(registry) == []
    check_the_rest(registry, before)


@at(*EVERY)
@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL"])
def test_no_header_makes_a_delete_of_another_request(
    registry: Registry, header: str, before: dict[str, bytes]
) -> None:
    """Neither the method nor the path is taken from one."""
    value = {"X-HTTP-Method-Override": "DELETE"}.get(header, "/api/delete")
    method, target = ("POST", "/api/delete") if value == "DELETE" else ("DELETE", "/x")
    answer = registry.server.request(method, target, BODY, {header: value, **ALONE})

    assert answer.status == (405 if value == "DELETE" else 404)
    assert gone(registry) == []
    check_the_rest(registry, before)


# Clients that take their time


@at(*THREADED, "nginx")
@pytest.mark.parametrize(
    ("message", "rest"),
    [(head("Content-Length: 18") + BODY, b" "), (chunked(CHUNKS[:-5]), b"0\r\n\r\n")],
    ids=["length", "chunked"],
)
def test_nothing_is_deleted_before_the_body_is_whole(
    registry: Registry, message: bytes, rest: bytes
) -> None:
    """All of the JSON is there, but the body has not ended; others are served meanwhile."""
    with registry.server.connect() as connection:
        connection.sendall(message)
        assert registry.delete("other").status == 200
        assert registry.delete("other").status == 404
        assert registry.has("smol")
        connection.sendall(rest)
        answer = read_answer(connection, "DELETE")

    assert answer is not None
    assert answer.status == 200
    assert gone(registry) == ["smol", "other"]


# A worker of gunicorn gives a thread to each, so more than it has threads would hold up the next.
@at("waitress", "nginx")
def test_any_number_of_slow_clients_holds_up_nobody(registry: Registry) -> None:
    """Where the server itself collects the body, sixty who never end it are no hindrance."""
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(registry.server.connect())
            connection.sendall(head(LENGTH) + BODY[:-1])
        assert registry.delete("other").status == 200

    assert gone(registry) == ["other"]


# Names


@pytest.mark.parametrize(
    "name",
    [
        *(
            "CON",
            "nul",
            "com1.txt",
            "LPT9",
            "PRN:AUX",
            "model.",
            "model..",
            "a..b",
            "m:t.",
            "m:t..",
        ),
        *("_", "0", "trash", "blobs/manifests/trash:blobs", "h:1/n/m", "a.lock", "desktop.ini"),
        *("sha256-00", "id.partial", "xn--p1ai", "m" * 80, "constructor", "__proto__", "null"),
        *("/etc/passwd", "smol:../smol/latest"),  # no host is the default, and one may have dots
    ],
)
@at("gunicorn-gthread")
def test_names_that_are_special_elsewhere_are_names(
    registry: Registry, name: str, before: dict[str, bytes]
) -> None:
    """Devices of Windows, dots at the end, our own folders: each deletes that model alone."""
    host, namespace, model = ["", "library", *name.split("/")][-3:]
    model, _, tag = model.partition(":")
    key = f"{host or HOST}/{namespace}/{model}/{tag or 'latest'}"
    registry.tree.add(key, b"weights", b"smol")
    assert registry.has(key)

    assert registry.delete(name).status == 200
    assert registry.delete(name).status == 404
    assert not registry.has(key)
    assert gone(registry) == []
    check_the_rest(registry, before)


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "../smol", "library/..", "../library/smol", "smol:..", "a/../b/smol"),
        *("..\\smol", "/..", "%2e%2e", "smol/", "//etc/smol", "~", "*", "smo?", "-rf", "$HOME"),
        *(
            "smol\0",
            "smol\n",
            " smol",
            "smol ",
            "\uff53mol",
            "sm\u200bol",
            "C:\\smol",
            "smol@sha256:0",
        ),
        *("file:///smol", "http://h/n/smol", "a/b/c/smol", "..." * 100, "m" * 81, "x" * 60_000),
    ],
    ids=lambda name: ascii(name)[1:40],
)
@at("gunicorn-gthread")
def test_what_is_no_name_is_refused(
    registry: Registry, name: str, before: dict[str, bytes]
) -> None:
    """The answer repeats it, as JSON in ASCII, and not at any length."""
    answer = registry.delete(name)

    assert answer.status == 400
    assert answer.header("Content-Type") == "application/json"
    assert answer.body.isascii()
    assert len(answer.body) < 8_000
    assert json.loads(answer.body)["error"].isprintable()
    assert gone(registry) == []
    check_the_rest(registry, before)


# The log


FORGED = "x\r\n2026-01-01 ERROR forged\x1b[2J\x1b]0;title\x07\x00\x85\x9b31m\u2028\u202e"


@at(*EVERY)
@pytest.mark.parametrize(
    "message",
    [
        request("DELETE", "/api/delete", json.dumps({"model": FORGED}).encode(), ALONE),
        request("DELETE", "/api/delete", b'{"model": ' + FORGED.encode(), ALONE),
        request("DELETE", "/api/delete", json.dumps({"model": f"m:t:{FORGED}"}).encode(), ALONE),
        request("DELETE", "/%0d%0aERROR%20forged%1b%5b2J%00%c2%9b%e2%80%a8", BODY, ALONE),
        request("GET", "/api/delete?%0d%0aERROR\x1b[2J", BODY, ALONE),
        request("DEL\x1b[2JETE", "/api/delete", BODY, ALONE),
        request("DEL\x9bETE", "/api/delete", BODY, ALONE),
        request("DELETE\x07", "/api/delete", BODY, ALONE),
        request("GET", "/api/delete?\x1b[2J", BODY, ALONE),
        request("GET", "/api/delete", BODY, {"X-Forwarded-For": "\x1b[2J", **ALONE}),
        request("GET", "/api/delete", BODY, {"X-Forwarded-For": "1.1.1.1\u00c2\u009b", **ALONE}),
        request("GET", "/api/delete", BODY, {"Host": "localhost\x1b[2J", **ALONE}),
        request("GET", "/api/delete", BODY).replace(b"HTTP/1.1", b"HTTP/1.1\x1b[2J"),
    ],
)
def test_nobody_can_forge_a_line_of_the_log(
    registry: Registry, message: bytes, before: dict[str, bytes]
) -> None:
    """One line for a request, and nothing in it that moves a cursor, whatever was sent."""
    registry.server.exchange(message)

    lines = registry.lines()
    assert len(lines) == len(registry.logged()) <= 1
    for line in lines:
        assert line.isprintable()
    # What the server itself has to say.
    for line in registry.server.new_output().split("\n"):
        assert line.isprintable()
    assert gone(registry) == []
    check_the_rest(registry, before)
