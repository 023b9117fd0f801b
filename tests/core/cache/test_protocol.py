"""The protocol of a cache: what is called after a delete."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import later
from kit.trees import HOST, Tree
from registry_wsgi import LocalRegistry, ModelCache
from registry_wsgi.cache.protocol import Cache, clean_up

MONTH = timedelta(days=30)


class Plain:
    """A cache of two methods."""

    def __init__(self) -> None:
        self.pruned = 0

    def unlink(self, name: str) -> bool:
        """There is no model."""
        del name
        return False

    def prune(self) -> None:
        """Count."""
        self.pruned += 1


class Wrapping(Plain):
    """A cache that passes on what it is asked, and is no subclass of ours."""

    def __init__(self, inner: Cache) -> None:
        super().__init__()
        self.inner = inner
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        if name == "inner":  # while it is made
            raise AttributeError(name)
        self.asked.append(name)
        return getattr(self.inner, name)


def test_a_cache_of_two_methods_is_pruned_after_a_delete() -> None:
    """Its ``prune`` is called, as it has nothing else."""
    cache = Plain()
    clean_up(cache)
    assert cache.pruned == 1


def test_a_cache_that_wraps_ours_gets_the_prune_after_a_delete(tree: Tree) -> None:
    """The prune of the deleted is passed on: what nobody deleted stays."""
    tree.add("keep", b"k")
    tree.add("gone", b"g")
    tree.add_blob(b"left over")
    later(tree.root).unlink("gone")
    wrapping = Wrapping(later(tree.root, MONTH))
    clean_up(wrapping)
    assert (wrapping.asked, wrapping.pruned) == (["prune_deleted"], 0)
    assert len(list(tree.blobs.iterdir())) == 3
    assert later(tree.root).deleted() == []


class OfTwoMethods:
    """A cache that wraps another and has the two methods of the protocol, and nothing else."""

    def __init__(self, inner: ModelCache, **options: Any) -> None:
        self.inner, self.options = inner, options

    def unlink(self, name: str) -> bool:
        """Pass it on."""
        return self.inner.unlink(name)

    def prune(self) -> object:
        """Pass it on."""
        return self.inner.prune(**self.options)


@pytest.mark.parametrize(
    ("options", "left"),
    [({}, 3), ({"age": 0}, 2), ({"deleted_only": False}, 2)],
    ids=str,
)
def test_a_cache_of_two_methods_that_wraps_ours_gets_it_too(
    tree: Tree, options: dict[str, Any], left: int
) -> None:
    """Unless it asks for a prune of another kind; on its own its prune is a whole one."""
    tree.add("keep", b"k")
    tree.add("gone", b"g")
    tree.add_blob(b"left over")
    later(tree.root).unlink("gone")
    wrapping = OfTwoMethods(later(tree.root, MONTH), **options)
    clean_up(wrapping)
    assert len(list(tree.blobs.iterdir())) == left
    OfTwoMethods(later(tree.root, MONTH)).prune()
    assert len(list(tree.blobs.iterdir())) == 2


def test_the_middleware_cleans_up_behind_a_cache_of_two_methods(tree: Tree) -> None:
    """A delete over HTTP takes what has expired, and leaves what nobody deleted."""
    tree.add("keep", b"k")
    tree.add("stay", b"s")
    tree.add("gone", b"g")
    tree.add_blob(b"left over")
    later(tree.root).unlink("gone")
    app = LocalRegistry(None, OfTwoMethods(later(tree.root, MONTH)))
    assert Client(app).delete("/api/delete", json={"model": "keep"}).status_code == 200
    assert [model.name for model in later(tree.root).deleted()] == [f"{HOST}/library/keep:latest"]
    assert len(list(tree.blobs.iterdir())) == 4


def test_what_is_out_of_reach_stops_the_prune_after_a_delete_alone(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The delete stands, nothing is removed, and a warning says why."""
    tree.add("keep", b"k")
    tree.add("gone", b"g")
    later(tree.root).unlink("gone")
    (tree.manifests / "hf.co").symlink_to(tmp_path / "away")
    with caplog.at_level(logging.WARNING, "registry_wsgi"):
        assert later(tree.root, MONTH).prune_deleted().models == 0
    assert "hf.co" in caplog.text
    assert len(later(tree.root).deleted()) == 1
