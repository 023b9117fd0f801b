"""The app that is made from the environment alone, served by the line in the manual."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.servers import LIMIT, Serve, start, stop
from kit.trees import Tree
from registry_wsgi import DiskStore, ModelCache

APP = "registry_wsgi:create_app()"


@pytest.mark.parametrize("retention", [None, "7d"])
def test_deletes_with_a_way_back(
    kind: str, serve: Serve, tree: Tree, retention: str | None
) -> None:
    """OLLAMA_MODELS alone is enough; what is deleted can be restored."""
    tree.add("smol", b"weights")
    before = tree.files()
    environment = {"OLLAMA_MODELS": str(tree.root)}
    if retention is not None:
        environment["REGISTRY_WSGI_RETENTION"] = retention
    server = serve(kind, APP, environment)

    answer = server.request("DELETE", "/api/delete", b'{"model": "smol"}')

    assert (answer.status, answer.body) == (200, b"")
    assert not tree.path("smol").exists()
    ModelCache(DiskStore(tree.root)).restore("smol")
    assert tree.files() == before


def test_a_retention_of_0_deletes_for_good(serve: Serve, tree: Tree) -> None:
    """As in the Go handler, blobs that nothing else uses go with the model."""
    tree.add("smol", b"shared", b"own")
    tree.add("other", b"shared")
    environment = {"OLLAMA_MODELS": str(tree.root), "REGISTRY_WSGI_RETENTION": "0"}
    server = serve("gunicorn-sync", APP, environment)

    answer = server.request("DELETE", "/api/delete", b'{"model": "smol"}')

    assert answer.status == 200
    assert sorted(path.read_bytes() for path in tree.blobs.iterdir()) == [b"shared", b"{}"]
    assert ModelCache(DiskStore(tree.root)).deleted() == []


def test_without_ollama_models_the_models_are_those_of_the_home(
    serve: Serve, tmp_path: Path
) -> None:
    """~/.ollama/models, the rule of the Go code."""
    tree = Tree(tmp_path / ".ollama" / "models")
    tree.add("smol", b"weights")
    server = serve("gunicorn-sync", APP, {"HOME": str(tmp_path)})

    answer = server.request("DELETE", "/api/delete", b'{"model": "smol"}')

    assert answer.status == 200
    assert not tree.path("smol").exists()


def test_the_cause_of_a_500_is_seen_without_setting_up_logging(
    kind: str, serve: Serve, tree: Tree
) -> None:
    """The output of the server names the path, and the answer does not."""
    tree.add("smol", b"weights")
    tree.trash.write_text("in the way")
    server = serve(kind, APP, {"OLLAMA_MODELS": str(tree.root)})

    answer = server.request("DELETE", "/api/delete", b'{"model": "smol"}')

    assert answer.status == 500
    assert str(tree.root).encode() not in answer.body
    assert f"DELETE /api/delete 500 {tree.trash}" in server.new_output()
    assert tree.path("smol").exists()


def test_other_paths_are_answered_404(serve: Serve, tree: Tree) -> None:
    """There is no app behind it."""
    server = serve("gunicorn-sync", APP, {"OLLAMA_MODELS": str(tree.root)})

    answer = server.request("GET", "/api/tags")

    assert answer.status == 404
    assert answer.header("Content-Type") == "application/json"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REGISTRY_WSGI_RETENTION", "a week"),
        ("REGISTRY_WSGI_PRUNE", "perhaps"),
        ("OLLAMA_MODELS", "/nonexistent/models"),
        ("OLLAMA_MODELS", __file__),
        ("OLLAMA_MODELS", "ftp://host/models"),
    ],
)
@pytest.mark.parametrize("kind", ["gunicorn-sync", "waitress"])
def test_a_setting_that_cannot_be_used_stops_the_start(
    kind: str, variable: str, value: str, tree: Tree, tmp_path: Path
) -> None:
    """The server ends with an error, and what it says names the variable."""
    environment = {"OLLAMA_MODELS": str(tree.root), variable: value}
    process = start(kind, APP, tmp_path, environment)
    try:
        assert process.wait(LIMIT) > 0
    finally:
        stop(process)

    output = (tmp_path / "output.txt").read_text()
    assert f"ConfigurationError: {variable}: " in output
