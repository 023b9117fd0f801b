"""Mounted below a prefix, by an app around it or by the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kit.servers import Serve, Server
from kit.trees import Tree

PREFIX = "/models"


def dispatched(kind: str, serve: Serve, models: dict[str, str]) -> Server:
    """An app in the server sends what is below the prefix to the middleware."""
    return serve(kind, "apps.prefixed:app", models)


def prefixed(kind: str, serve: Serve, models: dict[str, str]) -> Server:
    """The server itself knows that all is below the prefix."""
    if kind == "waitress":
        return serve(kind, "registry_wsgi:create_app()", models, [f"--url-prefix={PREFIX}"])
    return serve(kind, "registry_wsgi:create_app()", {**models, "SCRIPT_NAME": PREFIX})


@pytest.mark.parametrize("mount", [dispatched, prefixed])
def test_deletes_below_a_prefix(
    kind: str, mount: Callable[[str, Serve, dict[str, str]], Server], serve: Serve, tree: Tree
) -> None:
    """The prefix is the mount's matter: below it the path is /api/delete, and no other is."""
    tree.add("smol", b"weights")
    tree.add("other", b"weights")
    server = mount(kind, serve, {"OLLAMA_MODELS": str(tree.root)})

    deleted = server.request("DELETE", f"{PREFIX}/api/delete", b'{"model": "smol"}')
    doubled = server.request("DELETE", f"{PREFIX}{PREFIX}/api/delete", b'{"model": "other"}')

    assert (deleted.status, deleted.body) == (200, b"")
    assert not tree.path("smol").exists()
    assert doubled.status == 404
    assert tree.path("other").exists()
