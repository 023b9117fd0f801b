"""
What each WSGI server can do: the table of ``docs/gunicorn.rst``.

It takes servers that no other test needs (the dependency group ``servers``), so that it is for the
exhaustive tier.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import NamedTuple

import pytest

from kit.requirements import require
from kit.servers import LIMIT, request, wait_for
from kit.trees import Tree

pytestmark = [pytest.mark.live, pytest.mark.exhaustive]

DOCS = Path(__file__).parents[2] / "docs"

_APP = """
from registry_wsgi import create_app
app = create_app()
"""
_EVENTLET = """
import sys
import eventlet
eventlet.monkey_patch()
import eventlet.wsgi
from served import app
eventlet.wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app)
"""
_ASGI = """
from a2wsgi import WSGIMiddleware
asgi = WSGIMiddleware(app)
"""

#: How each is started: the module, and what follows. Each has one process.
COMMANDS = {
    "gunicorn, sync": "gunicorn -b 127.0.0.1:{} served:app",
    "gunicorn, gthread": "gunicorn -b 127.0.0.1:{} --threads 8 served:app",
    "gunicorn, gevent": "gunicorn -b 127.0.0.1:{} -k gevent served:app",
    "eventlet": "with_eventlet {}",
    "uWSGI": "pyuwsgi --http-socket 127.0.0.1:{} --master --threads 8 --module served:app",
    "waitress": "waitress --listen 127.0.0.1:{} --threads 8 served:app",
    "cheroot": "cheroot --bind 127.0.0.1:{} --threads 8 served:app",
    "granian": "granian --interface wsgi --port {} --blocking-threads 8 served:app",
    "a2wsgi, uvicorn": "uvicorn --port {} served:asgi",
}
_NEEDS = {
    "gunicorn, gevent": ("gunicorn", "gevent"),
    "eventlet": ("eventlet",),
    "a2wsgi, uvicorn": ("uvicorn", "a2wsgi"),
}


class Row(NamedTuple):
    """A row of the table."""

    chunked: str  # the status of a delete with a chunked body
    others: str  # whether others are served during a prune
    stream: str  # whether the progress of a prune comes while it runs


@pytest.fixture(params=COMMANDS)
def server(request: pytest.FixtureRequest, tree: Tree, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """One of the servers, and its port."""
    name: str = request.param
    module, *arguments = COMMANDS[name].split()
    require(*_NEEDS.get(name, (module,)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "served.py").write_text(_APP + (_ASGI if "asgi" in COMMANDS[name] else ""))
    (tmp_path / "with_eventlet.py").write_text(_EVENTLET)
    command = [sys.executable, "-m", module]
    if module == "pyuwsgi":
        command = [str(Path(sys.executable).with_name("pyuwsgi"))]
    settings = {"OLLAMA_MODELS": str(tree.root), "REGISTRY_WSGI_MAINTENANCE": "1"}
    with (tmp_path / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [*command, *(argument.format(port) for argument in arguments)],
            cwd=tmp_path,
            env={**os.environ, **settings, "PYTHONPATH": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            with suppress(OSError):
                return ask(port, "GET", "/") == 404
            return False

        wait_for(answers, name)
        yield name, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> int:
    """Ask, and give the status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request(method, path, body)
        with connection.getresponse() as response:
            response.read()
            return response.status
    finally:
        connection.close()


def chunked(port: int) -> str:
    """The status of a delete whose body is chunked."""
    body = b'{"model": "chunked"}'
    head = b"DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        with HTTPResponse(connection) as response:
            response.begin()
            return str(response.status)


def fill(tree: Tree) -> None:
    for number in range(6_000):
        (tree.blobs / f"sha256-{number:064x}").touch()


def others(port: int) -> str:
    """Whether others are served while a prune is under way."""
    body = json.dumps({"age": "0"}).encode()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, port, "POST", "/api/prune", body)
        served = 0
        while not first.done():
            ask(port, "GET", "/api/deleted")
            served += not first.done()
        assert first.result() == 200
    return "yes" if served >= 3 else "no"  # one of them may have been before it began


def stream(port: int, tree: Tree) -> str:
    """Whether the first line about a prune comes while there is still something to remove."""
    body = json.dumps({"age": "0", "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.sendall(request("POST", "/api/prune", body))
        with HTTPResponse(connection) as response:
            response.begin()
            response.readline()
            left = len([*tree.blobs.iterdir()])
            lines = response.read().splitlines()
    assert json.loads(lines[-1])["status"] == "success"
    return "yes" if left > 100 else "no"


def test_it_does_what_the_table_says(server: tuple[str, int], tree: Tree) -> None:
    """A delete with a length, one in chunks, others during a prune, and its progress."""
    name, port = server
    for model in ("plain", "chunked"):
        tree.add(model, model.encode())
    assert ask(port, "DELETE", "/api/delete", b'{"model": "plain"}') == 200
    assert not tree.path("plain").exists()
    found = chunked(port)
    assert tree.path("chunked").exists() == (found != "200")
    fill(tree)
    served = others(port)
    fill(tree)
    row = Row(found, served, stream(port, tree))
    (shown,) = [
        [cell.strip("* -").strip() for cell in block.splitlines()[1:]]
        for block in (DOCS / "gunicorn.rst").read_text().split("   * - ")
        if block.startswith(f"{name}\n")
    ]
    assert row == Row(*shown[:3])
