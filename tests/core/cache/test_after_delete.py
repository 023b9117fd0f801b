"""The prune after a delete, for which a client waits: it is bounded, and never pauses."""

from __future__ import annotations

import time

import pytest

from kit.clocks import DAY, HOUR
from kit.inside import after_delete_at_most
from kit.trees import Tree, blob, broken
from registry_wsgi import DiskStore, ModelCache, PruneReport

pytestmark = pytest.mark.usefixtures("hasty")

# A test that pauses takes far too long.
PAUSE = HOUR


@pytest.fixture
def tree(tree: Tree) -> Tree:
    """A store at rest, in which the retention of two deleted models is over."""
    for name in ("kept", "one", "two"):
        tree.add(name, name.encode())
    for name in ("one", "two"):
        assert ModelCache(DiskStore(tree.root)).unlink(name)
    return tree


def ahead(tree: Tree, seconds: float = 0) -> ModelCache:
    """A cache eight days later, and *seconds* more."""
    now = time.time() + 8 * DAY + seconds
    cache = ModelCache(DiskStore(tree.root), clock=lambda: now)
    cache.pause = PAUSE
    return cache


def aside(tree: Tree) -> set[str]:
    return {found.name for found in DiskStore(tree.root).condemned()}


def test_it_does_not_pause_and_leaves_what_it_sets_aside(tree: Tree) -> None:
    """The next delete frees the space, if the pause is over by then."""
    report = ahead(tree).prune_deleted()
    assert (report.models, report.blobs, report.held_blobs) == (2, 0, 2)
    assert ahead(tree, PAUSE / 2).prune_deleted() == PruneReport()
    assert aside(tree) == {blob(b"one"), blob(b"two")}
    report = ahead(tree, 2 * PAUSE).prune_deleted()
    assert (report.models, report.blobs, report.held_blobs) == (0, 2, 0)
    assert aside(tree) == set()
    assert broken(tree.root) == []


def test_a_later_prune_pauses_for_it(tree: Tree) -> None:
    """A pull that looked at a blob before it was set aside shows by the end of that pause."""
    manifest = tree.path("kept").read_bytes().replace(blob(b"kept")[7:].encode(), b"%s")
    assert ahead(tree).prune_deleted().held_blobs == 2

    def progress(what: str, *_: object) -> None:
        if what == "waiting for pulls to show":
            tree.write("new", manifest.replace(b"%s", blob(b"one")[7:].encode()))

    cache = ahead(tree, 0.1)
    cache.pause = 0.2
    assert cache.prune(progress=progress).blobs == 1
    assert tree.path("new").exists()
    assert broken(tree.root) == []


def test_it_gives_up_when_its_time_is_over(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """Then nothing has changed, and the next prune does it."""
    cache = ahead(tree)
    cache.after_delete = 0
    assert cache.prune_deleted() == PruneReport()
    assert "left to the next prune" in caplog.text
    assert (len(cache.deleted()), aside(tree)) == (2, set())
    cache.pause = 0
    assert cache.prune().models == 2


def test_it_removes_what_expired_first(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest stays in the trash, for the next one."""
    after_delete_at_most(monkeypatch, 1)
    cache = ahead(tree)
    cache.pause = 0
    assert cache.prune_deleted().blobs == 1
    assert [model.name for model in cache.deleted()] == ["registry.ollama.ai/library/two:latest"]
    assert cache.prune_deleted().blobs == 1
    assert cache.deleted() == []


def test_only_the_clock_of_the_system_bounds_it(tree: Tree) -> None:
    """Another clock does not go on meanwhile."""
    assert ModelCache(DiskStore(tree.root)).after_delete == 0.5
    assert ahead(tree).after_delete == float("inf")
