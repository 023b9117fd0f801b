"""The maintenance API behind real servers, and whether it is what its description says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from kit.requirements import require
from kit.servers import EXAMPLES, THREADED, Answer, Serve, Server, request, wait_for
from kit.trees import Tree, broken
from registry_wsgi import DiskStore, ModelCache

DESCRIPTION = EXAMPLES.parent / "openapi.yaml"
APP = "registry_wsgi:create_app()"


def post(server: Server, path: str, body: object, **headers: str) -> Answer:
    """Post *body* as JSON."""
    return server.request("POST", path, json.dumps(body).encode(), headers)


# What the description says


@pytest.mark.moments
@pytest.mark.parametrize("token", [None, "right", "wrong"])
def test_it_is_as_described(serve: Serve, tree: Tree, tmp_path: Path, token: str | None) -> None:
    """Hundreds of requests, right and wrong, are answered as docs/openapi.yaml has it."""
    require("schemathesis")
    for name in ("tinyllama", "other"):
        tree.add(name, b"weights of " + name.encode())
    environment = {"OLLAMA_MODELS": str(tree.root), "REGISTRY_WSGI_MAINTENANCE": "1"}
    environment["REGISTRY_WSGI_EVICT_MAX_USED"] = "1kB"
    if token is not None:
        environment["REGISTRY_WSGI_TOKEN"] = "right"
    server = serve("gunicorn-gthread", APP, environment)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(DESCRIPTION), "--url", server.url),
        *("--checks=all", "--max-examples=25", "--generation-deterministic", "--no-color"),
    ]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    if token == "wrong":
        # Who is not let in is told so, be the rest right or wrong.
        command += ["--exclude-checks=negative_data_rejection,positive_data_acceptance"]
    result = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )

    assert result.returncode == 0, result.stdout
    operations = DESCRIPTION.read_text().count(" operationId: ")
    assert f" {operations} selected / {operations} total" in result.stdout
    assert broken(tree.root) == []
    assert tree.path("other").exists() or token != "wrong"


# A prune that takes its time


@pytest.fixture(params=THREADED)
def waiting(
    request: pytest.FixtureRequest, serve: Serve, tree: Tree, tmp_path: Path
) -> Iterator[tuple[Server, int]]:
    """A server whose prunes wait for a byte, and where to write it; there is one to prune."""
    signal = tmp_path / "signal"
    os.mkfifo(signal)
    tree.add("smol", b"weights")
    tree.add("other", b"another's")
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("smol")
    files = {"SIGNAL": signal, "NOTES": tmp_path / "notes", "LOG": tmp_path / "log.jsonl"}
    environment = {name: str(path) for name, path in files.items()}
    environment["OLLAMA_MODELS"] = str(tree.root)
    server = serve(request.param, "apps.maintenance:app", environment)
    (tmp_path / "log.jsonl").write_text("")
    pipe = os.open(signal, os.O_RDWR)
    yield server, pipe
    os.close(pipe)


def logged(folder: Path) -> list[dict[str, Any]]:
    """The log records."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_prune_holds_up_nobody(
    waiting: tuple[Server, int], tree: Tree, tmp_path: Path, stream: bool
) -> None:
    """But for another prune, which is told so."""
    server, pipe = waiting
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, "/api/prune", {"age": "0", "stream": stream})
        wait_for((tmp_path / "notes").exists, "the prune to begin")
        for _ in range(6):  # of whichever worker
            assert post(server, "/api/prune", {"age": "7d"}).status == 409
        assert server.request("GET", "/api/deleted").status == 200
        assert server.request("DELETE", "/api/delete", b'{"model": "other"}').status == 200
        assert post(server, "/api/restore", {"model": "other"}).status == 200
        assert not first.done()
        os.write(pipe, b"!" * 3)
        answer = first.result(20)
    report = json.loads(answer.body.splitlines()[-1])
    assert (answer.status, report["models"]) == (200, 1)
    assert tree.path("other").exists()
    assert broken(tree.root) == []


@pytest.mark.parametrize("stream", [False, True])
def test_others_are_served_where_a_prune_has_no_thread(
    serve: Serve, tree: Tree, stream: bool
) -> None:
    """A worker of gevent has one thread for all: the prune gives way to the others."""
    require("gevent")
    tree.add("smol", b"weights")
    for number in range(5_000):
        (tree.blobs / f"sha256-{number:064x}").touch()
    server = serve(
        "gunicorn-gevent", APP, {"OLLAMA_MODELS": str(tree.root), "REGISTRY_WSGI_MAINTENANCE": "1"}
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, "/api/prune", {"age": "0", "stream": stream})
        served = 0
        while not first.done():
            server.request("GET", "/api/deleted")
            served += not first.done()
        assert json.loads(first.result().body.splitlines()[-1])["blobs"] == 5_000
    assert served >= 3  # one of them before the prune began


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_does_not_stop_a_prune(
    waiting: tuple[Server, int], tree: Tree, tmp_path: Path, stream: bool
) -> None:
    """It ends as if someone were there, and is logged."""
    server, pipe = waiting
    body = json.dumps({"age": "0", "stream": stream}).encode()
    with server.connect() as connection:
        connection.sendall(request("POST", "/api/prune", body))
        if stream:
            with HTTPResponse(connection) as response:
                response.begin()
                assert response.status == 200
        wait_for((tmp_path / "notes").exists, "the prune to begin")
    assert any(tree.trash.iterdir())
    os.write(pipe, b"!" * 3)
    wait_for(lambda: logged(tmp_path), "the record")

    assert not any(tree.trash.iterdir())
    assert len(list(tree.blobs.iterdir())) == 2
    assert broken(tree.root) == []
    assert [(r["status"], r["level"]) for r in logged(tmp_path)] == [(200, "INFO")]
