"""Many clients at once."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack

import pytest

from kit.servers import THREADED, Registry, read_answer, request
from registry_wsgi import DiskStore, ModelCache


def message(name: str) -> bytes:
    """A request that deletes *name*."""
    body = json.dumps({"model": name}).encode()
    # A server that is to close the connection may wait for the client to do so first.
    return request("DELETE", "/api/delete", body, {"Connection": "keep-alive"})


@pytest.mark.parametrize("again", range(5))  # one round can miss a race
@pytest.mark.parametrize("kind", THREADED, indirect=True, scope="session")
def test_of_five_deletes_of_a_model_at_once_one_succeeds(registry: Registry, again: int) -> None:
    """Fifty clients delete ten models: ten are told 200, forty 404, and all ten can be restored."""
    names = [f"model{number}" for number in range(10)]
    for name in names:
        registry.tree.add(name, b"shared weights", name.encode())
    before = registry.tree.files()

    with ExitStack() as stack:
        five_each = sorted(names * 5)
        clients = [(name, stack.enter_context(registry.server.connect())) for name in five_each]
        for name, connection in clients:
            connection.sendall(message(name)[:-1])
        for name, connection in clients:  # as close to each other as can be
            connection.sendall(message(name)[-1:])
        answers = [(name, read_answer(connection, "DELETE")) for name, connection in clients]

    statuses = Counter((name, answer and answer.status) for name, answer in answers)
    assert statuses == {(name, 200): 1 for name in names} | {(name, 404): 4 for name in names}
    refused = [answer.body for _, answer in answers if answer and answer.status == 404]
    assert {json.loads(text)["code"] for text in refused} == {"not_found"}
    assert not [path for path in registry.tree.files() if path.startswith("manifests")]

    cache = ModelCache(DiskStore(registry.tree.root))
    deleted = [str(model) for model in cache.deleted()]
    assert sorted(deleted) == [f"registry.ollama.ai/library/{name}:latest" for name in names]
    for name in deleted:
        cache.restore(name)
    assert registry.tree.files() == before
