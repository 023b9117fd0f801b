"""Models are deleted, restored, pruned and checked on every file system that the docs name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clocks import A_DAY, later
from kit.trees import Tree, blob, broken
from kit.worlds import Worlds

pytestmark = pytest.mark.world


def overlay(worlds: Worlds) -> Path:
    return worlds.overlay(worlds.folder("lower")).root


FILE_SYSTEMS: list[Callable[[Worlds], Path]] = [
    Worlds.ext4,
    Worlds.xfs,
    Worlds.btrfs,
    Worlds.tmpfs,
    Worlds.exfat,
    Worlds.ntfs,
    Worlds.share,
    overlay,
]


@pytest.fixture(params=FILE_SYSTEMS, ids=lambda make: make.__name__)
def tree(worlds: Worlds, request: pytest.FixtureRequest) -> Tree:
    """An empty models directory on each file system."""
    return Tree(request.param(worlds) / "models")


def test_a_model_is_deleted_and_restored(tree: Tree) -> None:
    tree.add("one", b"shared", b"only one's")
    tree.add("two", b"shared")
    before = tree.files()
    assert later(tree.root).unlink("one")
    assert later(tree.root, 6 * A_DAY).prune().blobs == 0
    assert [model.restorable for model in later(tree.root).deleted()] == [True]
    later(tree.root).restore("one")
    assert tree.files() == before
    assert later(tree.root).deleted() == []


def test_what_nothing_needs_goes_and_the_rest_stays(tree: Tree) -> None:
    tree.add("one", b"shared", b"only one's")
    tree.add("two", b"shared")
    tree.add_blob(b"left over")
    later(tree.root).unlink("one")
    later(tree.root, 30 * A_DAY).prune()
    later(tree.root, 60 * A_DAY).prune()
    assert {path.name for path in tree.blobs.iterdir()} == {blob(b"shared"), blob(b"{}")}
    assert list(tree.trash.iterdir()) == []
    assert broken(tree.root) == []
    assert later(tree.root).verify(deep=True).ok


def test_age_zero_removes_all_that_is_not_needed_at_once(tree: Tree) -> None:
    tree.add("one", b"one")
    tree.add("two", b"two")
    later(tree.root).unlink("one")
    report = later(tree.root).prune(age=0)
    assert (report.models, report.blobs, report.bytes) == (1, 1, 3)
    assert later(tree.root).verify(deep=True).ok


def test_a_protected_model_stays(tree: Tree) -> None:
    tree.add("one", b"one")
    tree.add("two", b"two")
    later(tree.root).protect("two")
    later(tree.root, 30 * A_DAY).prune(age=0, all=True)
    assert [model.name for model in later(tree.root).models()] == [
        "registry.ollama.ai/library/two:latest"
    ]
