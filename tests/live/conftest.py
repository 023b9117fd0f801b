"""Fixtures of the live tests: servers, started when first needed and stopped at the end."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kit.servers import KINDS, Nginx, Registry, Serve, Server, plain
from kit.trees import Tree, contents

SERVERS = pytest.StashKey[list[Server]]()


@pytest.fixture(scope="session")
def serve(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """Start a server, with the arguments of `Server`, or of `Nginx`, but for the folder."""
    servers = request.config.stash.setdefault(SERVERS, [])

    def start(kind: str, *arguments: Any) -> Server:
        folder = tmp_path_factory.mktemp(kind)
        server: Server
        if kind == "nginx":
            server = Nginx(folder, *arguments)
        else:
            app, *rest = arguments
            server = Server(kind, app, folder, *rest)
        servers.append(server)
        return server

    with ExitStack() as stack:
        try:
            yield start
        finally:
            for server in servers:
                server.ask_to_stop()  # all at once, as each takes its time
                stack.callback(server.stop)
            servers.clear()


@pytest.fixture(autouse=True)
def marked(request: pytest.FixtureRequest) -> None:
    """A failure shows what the servers put out during the test, and not what came before."""
    for server in request.config.stash.get(SERVERS, []):
        server.mark()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for server in item.config.stash.get(SERVERS, []):
            if output := server.new_output():
                report.sections.append((f"Output of {server.kind}", output))
    return report


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def registry_server(
    kind: str, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Server, Path, Path]:
    """A server around tests/apps/registry.py, or nginx before one, with its models and its log."""
    root = tmp_path_factory.mktemp("models")
    log = tmp_path_factory.mktemp("log") / "log.jsonl"
    environment = {"OLLAMA_MODELS": str(root), "LOG": str(log)}
    if kind != "nginx":
        return serve(kind, "apps.registry:app", environment), root, log
    behind = serve("gunicorn-gthread", "apps.registry:behind_a_proxy", environment)
    ollama = serve("gunicorn-gthread", "apps.plain:bare")
    return serve("nginx", behind.port, ollama.port), root, log


@pytest.fixture
def registry(registry_server: tuple[Server, Path, Path]) -> Registry:
    """A server around an empty models directory, with an empty log."""
    server, root, log = registry_server
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    assert contents(root) == {}
    log.write_text("")
    plain(log).write_text("")
    return Registry(server, Tree(root), log)
