"""The clients that people use, as they come from their registries."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kit.recorded import fill
from kit.requirements import npm_install, require, require_command, unavailable
from kit.servers import LIMIT, Registry

# No proxy; and nothing is left open, as not all versions of the client can be closed.
OPTIONS: dict[str, Any] = {"trust_env": False, "headers": {"Connection": "close"}}

DELETE = """
import { Ollama } from "ollama"
const [host, model] = process.argv.slice(2)
try {
    console.log(JSON.stringify(await new Ollama({ host }).delete({ model })))
} catch (error) {
    console.log(JSON.stringify([error.status_code, error.message]))
}
"""


@pytest.mark.parametrize("name", ["smol", "SMOL:latest", "example.com/ns/foo"])
def test_the_python_client_deletes(registry: Registry, name: str) -> None:
    """ollama.Client.delete reports success, and the model is gone."""
    require("ollama")
    import ollama

    fill(registry.tree)
    client = ollama.Client(host=registry.server.url, **OPTIONS)
    response = client.delete(name)

    assert response.status == "success"
    (record,) = registry.logged()
    assert record["status"] == 200
    key = "smol" if "/" not in name else "example.com/ns/foo/latest"
    assert not registry.has(key)
    assert len(list(registry.tree.manifests.glob("*/*/*/*"))) == 1


def test_the_python_client_says_that_there_is_no_such_model(registry: Registry) -> None:
    """A missing model is a ResponseError with our status and message."""
    require("ollama")
    import ollama

    client = ollama.Client(host=registry.server.url, **OPTIONS)
    with pytest.raises(ollama.ResponseError, match="model not found") as caught:
        client.delete("absent")

    assert caught.value.status_code == 404
    assert caught.value.error == "model not found"


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ollama package of npm and a script that deletes with it."""
    require_command("node", "npm")
    folder = tmp_path_factory.mktemp("node")
    (folder / "delete.mjs").write_text(DELETE)
    if problem := npm_install("ollama", folder):
        unavailable(problem)
    return folder


def delete_with_node(folder: Path, registry: Registry, model: str) -> str:
    """Run the script and give back what it prints."""
    result = subprocess.run(
        ["node", "delete.mjs", registry.server.url, model],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_node_client_deletes(node_folder: Path, registry: Registry) -> None:
    """Ollama.delete reports success, and the model is gone."""
    fill(registry.tree)

    assert delete_with_node(node_folder, registry, "smol") == '{"status":"success"}'
    assert not registry.has("smol")
    assert registry.has("example.com/ns/foo/latest")


def test_the_node_client_says_that_there_is_no_such_model(
    node_folder: Path, registry: Registry
) -> None:
    """A missing model is an error with our status and message."""
    printed = delete_with_node(node_folder, registry, "absent")

    assert printed == '[404,"model not found"]'
