"""Nginx as the docs set it up: deletes come to us, and Ollama gets the rest as if it were alone."""

from __future__ import annotations

import base64
import json
import os
import socket
from http.client import HTTPResponse
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import ClassVar

import pytest

from kit.servers import EXAMPLES, Registry, Serve, Server, request, staged
from kit.trees import Tree

pytestmark = [
    pytest.mark.parametrize("kind", ["nginx"], indirect=True, scope="session"),
    pytest.mark.usefixtures("kind"),
]

BODY = b'{"model": "smol"}'
ELSEWHERE = b"the app has no such page"  # as the stand-in for Ollama says it


@pytest.fixture(autouse=True)
def tree(registry: Registry) -> Tree:
    """There is a model to delete."""
    registry.tree.add("smol", b"weights")
    return registry.tree


@pytest.fixture
def nginx(registry: Registry) -> Server:
    """Nginx itself."""
    return registry.server


@pytest.mark.parametrize("chunks", [None, [BODY[:5], BODY[5:]]], ids=["length", "chunked"])
def test_a_delete_comes_to_us_with_its_body(
    registry: Registry, nginx: Server, chunks: list[bytes] | None
) -> None:
    """A proxy may drop the body of a DELETE; this one does not."""
    answer = nginx.request("DELETE", "/api/delete?x=y", BODY, chunks=chunks)

    assert (answer.status, answer.body) == (200, b"")
    assert not registry.has("smol")
    (record,) = registry.logged()
    assert record["content_length"] == len(BODY)


def test_our_errors_arrive_as_they_are(registry: Registry, nginx: Server) -> None:
    """Status, JSON and headers."""
    absent = registry.delete("absent")
    wrong = nginx.request("POST", "/api/delete", BODY)
    large = nginx.request("DELETE", "/api/delete", BODY.ljust(70_000))

    assert [answer.status for answer in (absent, wrong, large)] == [404, 405, 413]
    assert wrong.header("Allow") == "DELETE"
    codes = [json.loads(answer.body)["code"] for answer in (absent, wrong, large)]
    assert codes == ["not_found", "method_not_allowed", "content_too_large"]


def test_the_port_is_passed_on(registry: Registry, nginx: Server) -> None:
    """By it a page of the same origin is told from one of another port; both are named."""
    origin = nginx.url.rstrip("/")
    host = {"Host": origin[7:]}
    wrong = {"Origin": "http://127.0.0.1:1", **host}
    other = nginx.request("DELETE", "/api/delete", BODY, wrong)
    assert other.status == 403
    assert f"http://127.0.0.1:1, and the request came for {origin[7:]}" in other.body.decode()
    assert nginx.request("DELETE", "/api/delete", BODY, {"Origin": origin, **host}).status == 200
    assert not registry.has("smol")


def test_what_is_far_too_large_is_refused_by_nginx(registry: Registry, nginx: Server) -> None:
    """We do not see it."""
    assert nginx.request("DELETE", "/api/delete", BODY.ljust(2 << 20)).status == 413
    assert registry.logged() == []
    assert registry.has("smol")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api/tags", "/api/deleted", "/api/delete/", "/API/DELETE", "/v1/api/delete"),
        *("/api/delete/x", "/api%252fdelete", "/api/delete%3Fx", "/api/delete;x", "/api/delete/."),
    ],
)
def test_all_else_goes_to_ollama(registry: Registry, nginx: Server, method: str, path: str) -> None:
    """Whatever is not that path, and we do not see it."""
    answer = nginx.request(method, path, BODY)

    assert answer.header("X-App") == "plain"
    assert answer.body == (b"" if method == "HEAD" else ELSEWHERE)
    assert registry.logged() == []
    assert registry.has("smol")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *(("//api/delete", 404), ("/api//delete", 404), ("/api/./delete", 404)),
        *(("/x/../api/delete", 404), ("/api/%2e/delete", 404), ("/api/%2e%2e/api/delete", 404)),
        *(("/api/%64elete", 200), ("/api%2fdelete", 200), ("/api%2Fdelete", 200)),
    ],
)
def test_no_spelling_of_the_path_reaches_ollama(
    registry: Registry, nginx: Server, target: str, status: int
) -> None:
    """What Ollama might take for a delete comes to us; here only the exact path deletes."""
    answer = nginx.request("DELETE", target, BODY)

    assert answer.header("X-App") is None
    assert answer.status == status
    assert registry.has("smol") == (status != 200)
    assert [record["status"] for record in registry.logged()] == [status]


@pytest.mark.parametrize("path", ["/api/delete", "/absent"])
@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:8080", "127.0.0.2", "", None]
)
def test_a_name_that_was_made_to_point_here_is_refused(
    registry: Registry, nginx: Server, path: str, host: str | None
) -> None:
    """A page in a browser cannot reach us, nor Ollama, by DNS rebinding."""
    message = request("DELETE", path, BODY, {"Host": str(host)})
    if host is None:
        message = message.replace(b"HTTP/1.1\r\nHost: None", b"HTTP/1.0")
    answer = nginx.send(message)

    assert answer is not None
    assert answer.status in (403, 400)
    assert ELSEWHERE not in answer.body
    assert registry.logged() == []
    assert registry.has("smol")


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:8080"])
def test_the_names_of_this_machine_are_served(nginx: Server, host: str) -> None:
    """With a port or without."""
    assert nginx.request("DELETE", "/api/delete", BODY, {"Host": host}).status == 200


def test_the_address_in_the_log_is_not_the_clients_to_choose(
    registry: Registry, nginx: Server
) -> None:
    """The header that tells it is set by nginx, whatever the client has sent."""
    forged = {"X-Forwarded-For": "192.0.2.1"}
    assert nginx.request("DELETE", "/api/delete", BODY, forged).status == 200
    (record,) = registry.logged()
    assert record["remote"] == "127.0.0.1"


def test_each_side_is_told_a_host(serve: Serve) -> None:
    """Ollama one that it knows, and we the one that the client named."""
    app = serve("gunicorn-sync", "apps.plain:bare")
    nginx = serve("nginx", app.port, app.port)
    host = {"Host": "127.0.0.1:8080"}

    assert nginx.request("GET", "/", headers=host).header("X-Host") == "localhost"
    assert nginx.request("GET", "/api/delete", headers=host).header("X-Host") == "127.0.0.1:8080"


# A password


def test_nginx_can_ask_for_a_password(serve: Serve, tmp_path: Path, tree: Tree) -> None:
    """For a delete, in any spelling of the path, and for nothing else."""
    users = tmp_path / "htpasswd"
    users.write_text("ada:{PLAIN}secret\n")
    lines = (EXAMPLES / "nginx_basic_auth.conf").read_text()
    assert "/etc/nginx/models.htpasswd" in lines
    lines = lines.replace("/etc/nginx/models.htpasswd", str(users))
    registry = serve(
        "gunicorn-gthread", "registry_wsgi:create_app()", {"OLLAMA_MODELS": str(tree.root)}
    )
    ollama = serve("gunicorn-sync", "apps.plain:bare")
    place = "location = /api/delete {\n"
    nginx = serve("nginx", registry.port, ollama.port, {place: place + lines})

    def delete(credentials: str | None, path: str = "/api/delete") -> int:
        sent = base64.b64encode((credentials or "").encode()).decode()
        headers = {"Authorization": f"Basic {sent}"} if credentials else {}
        return nginx.request("DELETE", path, BODY, headers).status

    for credentials in (None, "ada:", "ada:secre", "bob:secret", ":"):
        assert delete(credentials) == delete(credentials, "/api%2fdelete") == 401
        assert tree.path("smol").exists()
    assert nginx.request("GET", "/").header("X-App") == "plain"
    assert delete("ada:secret") == 200
    assert not tree.path("smol").exists()


# What Ollama streams


@pytest.mark.parametrize("path", ["/stream", "/sized"])
def test_the_first_chunk_arrives_before_ollama_makes_the_second(
    nginx: Server, tmp_path: Path, path: str
) -> None:
    """The stand-in waits, before its second chunk, for a signal that follows the first one."""
    with staged(nginx, tmp_path) as app, nginx.connect() as connection:
        connection.sendall(request("GET", app.target(path)))
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.read(6) == b"first "
            app.go_on()
            assert response.read() == b"!"


def test_ollama_gets_a_body_while_it_comes(nginx: Server, tmp_path: Path) -> None:
    """It answers when half of the body is there, so nginx does not wait for the whole."""
    with staged(nginx, tmp_path) as app, nginx.connect() as connection:
        connection.sendall(request("POST", app.target("/stream"), b"x" * 100)[:-50])
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.read(6) == b"first "
        app.go_on()


def test_ollama_gets_a_large_body_whole(nginx: Server) -> None:
    """Blobs are uploaded, and there is no limit for them."""
    body = os.urandom(3 << 20)
    assert nginx.request("POST", "/body", body).body == body


# What fails behind it


@pytest.mark.parametrize(
    ("path", "time"), [("/", "proxy_read_timeout 1h"), ("/api/delete", "proxy_read_timeout 5m")]
)
def test_each_side_has_its_time_to_answer(serve: Serve, path: str, time: str) -> None:
    """Cut to a second, one that is silent is given up, and the client is told."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ports = [silent.getsockname()[1], nobody.getsockname()[1]]
        if path == "/":
            ports.reverse()
        nginx = serve("nginx", *ports, {time: "proxy_read_timeout 1s"})

        assert nginx.request("DELETE", path, BODY).status == 504


class Dropping(BaseRequestHandler):
    """Takes a request and hangs up."""

    taken: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.taken.append(self.request.recv(65_536))


def test_a_delete_is_sent_once(serve: Serve) -> None:
    """If the connection breaks, a second server is not asked: the first may have deleted."""
    with ThreadingTCPServer(("127.0.0.1", 0), Dropping) as dropping:
        port = dropping.server_address[1]
        Thread(target=dropping.serve_forever, daemon=True).start()
        address = "server 127.0.0.1:8434;"
        nginx = serve("nginx", port, port, {address: address * 2})
        Dropping.taken.clear()

        assert nginx.request("DELETE", "/api/delete", BODY).status == 502
        dropping.shutdown()
    assert len(Dropping.taken) == 1
