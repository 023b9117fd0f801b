"""A store that fails: the operator learns the cause, and the client only that there is one."""

from __future__ import annotations

import json

from kit.servers import Registry
from registry_wsgi import DiskStore, ModelCache


def test_a_store_that_cannot_be_changed_is_a_500_that_keeps_the_model(registry: Registry) -> None:
    """The path is in the log, at ERROR with the traceback, and nowhere in the answer."""
    registry.tree.add("smol", b"weights")
    registry.tree.trash.write_text("in the way")
    before = registry.tree.files()

    answer = registry.delete("smol")

    assert answer.status == 500
    assert answer.header("Content-Type") == "application/json"
    assert json.loads(answer.body) == {"code": "internal_error", "error": "internal server error"}
    for _, value in answer.headers:
        assert str(registry.tree.root) not in value

    (record,) = registry.logged()
    assert (record["level"], record["status"]) == ("ERROR", 500)
    assert str(registry.tree.trash) in record["error"]
    assert "Traceback" in record["text"]

    assert registry.tree.files() == before
    assert registry.tree.trash.read_text() == "in the way"
    models = ModelCache(DiskStore(registry.tree.root)).models()
    assert [str(model) for model in models] == ["registry.ollama.ai/library/smol:latest"]


def test_a_delete_succeeds_once_the_store_works_again(registry: Registry) -> None:
    """A failure leaves nothing behind in the server."""
    registry.tree.add("smol", b"weights")
    registry.tree.trash.write_text("in the way")
    assert registry.delete("smol").status == 500

    registry.tree.trash.unlink()

    assert registry.delete("smol").status == 200
    assert registry.delete("smol").status == 404
    assert [record["status"] for record in registry.logged()] == [500, 200, 404]
