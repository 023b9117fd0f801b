"""
Rule 7: what replaces something is on the disk before the other goes.

The power goes at the worst moment: all names are on the disk, and only those contents that were
synced. What `test_cuts` tries at every moment is tried here once, for other owners and mounts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import A_DAY, later
from kit.trees import Tree, blob, broken
from kit.users import SERVICE, give, run_as
from kit.worlds import Worlds, power_cut
from registry_wsgi import DiskStore, ModelCache

pytestmark = pytest.mark.world


def check(root: Path) -> None:
    """Nothing is lost: the model is there, or can be restored, and is whole."""
    cache = later(root)
    if not cache.models():
        assert [model.restorable for model in cache.deleted()] == [True]
        cache.restore("m")
    assert broken(root) == []
    assert cache.verify(deep=True).ok


def test_a_restored_model_of_another_owner(worlds: Worlds) -> None:
    """Its files cannot be linked, as the service is not their owner."""
    place = worlds.ext4()
    tree = Tree(place / "models")
    tree.add("m", b"weights" * 1000)
    folders = [path for path in tree.root.rglob("*") if path.is_dir()]
    give(SERVICE, tree.root)
    for path in tree.root.rglob("*"):
        if path not in folders:
            give(0, path)
    run_as(SERVICE, "open_cache(sys.argv[1]).unlink('m')", tree.root)

    def restore() -> None:
        run_as(SERVICE, "open_cache(sys.argv[1]).restore('m')", tree.root)

    check(power_cut(worlds, place, restore) / "models")


def test_a_model_deleted_where_manifests_are_on_another_mount(worlds: Worlds) -> None:
    """The manifest in the trash is a copy: it is on its disk before the other goes."""
    place = worlds.ext4()
    tree = Tree(place / "models")
    worlds.bind(worlds.folder("manifests"), tree.manifests)
    path = tree.add("m", b"weights" * 1000)
    data = path.read_bytes()
    after = power_cut(worlds, place, lambda: later(tree.root).unlink("m")) / "models"
    [copy] = (after / "trash").glob("*/manifests/*/library/m/latest")
    assert copy.read_bytes() == data


def test_a_repaired_blob(worlds: Worlds) -> None:
    place = worlds.ext4()
    tree = Tree(place / "models")
    tree.add("m", b"weights" * 1000)
    cache = later(tree.root)
    cache.unlink("m")
    tree.add("m", b"weights" * 1000)
    path = tree.blobs / blob(b"weights" * 1000)
    path.unlink()
    path.write_bytes(b"short")
    check(power_cut(worlds, place, lambda: cache.verify(repair=True)) / "models")


# Clocks


@pytest.mark.parametrize("behind", [3650 * A_DAY, 30 * A_DAY, A_DAY])
def test_a_clock_far_behind_at_the_delete_does_not_shorten_the_retention(
    tree: Tree, behind: Any
) -> None:
    tree.add("m", b"weights")
    later(tree.root, -behind).unlink("m")
    for passed in (0 * A_DAY, 6 * A_DAY):
        later(tree.root, passed).prune()
    assert [model.restorable for model in later(tree.root, 6 * A_DAY).deleted()] == [True]
    assert later(tree.root, 6 * A_DAY).restore("m")
    assert broken(tree.root) == []


def test_a_clock_that_starts_at_zero_does_not_either(tree: Tree) -> None:
    tree.add("m", b"weights")
    ModelCache(DiskStore(tree.root), clock=lambda: 17.0).unlink("m")
    later(tree.root).prune()
    assert later(tree.root).restore("m")
    later(tree.root).unlink("m")
    later(tree.root, 8 * A_DAY).prune()
    assert later(tree.root).deleted() == []


def test_a_clock_far_ahead_at_the_delete_is_no_obstacle(tree: Tree) -> None:
    tree.add("m", b"weights")
    ModelCache(DiskStore(tree.root), clock=lambda: time.time() + 1e9).unlink("m")
    cache = later(tree.root)
    cache.prune()
    assert [model.restorable for model in cache.deleted()] == [True]
    assert cache.prune(age=0).models == 1
