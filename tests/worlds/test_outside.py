"""
Rule 6, the other half: nothing outside the store is changed, whatever its owner swaps in.

The owner of a store waits until root has begun, and then lets a link take the place of a directory.
Each test stands at one moment of that race, so that it always comes out the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kit.clocks import A_DAY, later
from kit.effort import Effort, shard
from kit.os_seam import CHANGING, READING, Call, nothing, watched
from kit.trees import Tree, blob, contents, manifest
from kit.worlds import Worlds
from registry_wsgi import RegistryError

pytestmark = [pytest.mark.world, pytest.mark.moments, pytest.mark.usefixtures("hasty")]

MONTH = 30 * A_DAY
STAMP = "2026-01-01T00-00-00.000000Z-0badc0de"
NAMES = [blob(b"precious %d" % number) for number in range(4)]


@pytest.fixture
def place(worlds: Worlds) -> Path:
    """Where all is kept in memory, as there are many moments to try."""
    return worlds.tmpfs()


@pytest.fixture
def outside(place: Path) -> Path:
    """A directory of somebody else, with files that have the names of those in the store."""
    place = place / "outside"
    for folder in (place, place / "blobs", place / "latest"):
        folder.mkdir()
        for name in [*NAMES, "_"]:
            (folder / name).write_bytes(b"precious")
    (place / "manifest").mkdir()
    (place / "manifest" / "latest").write_bytes(b"precious")
    return place


@pytest.fixture
def victim(place: Path) -> Tree:
    """A store where a prune has much to do."""
    tree = Tree(place / "models")
    tree.add("keep", b"k")
    tree.add("old", b"old")
    for part in (f"trash/{STAMP}/blobs", f"condemned/{STAMP}", "blobs"):
        folder = tree.root / part
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (folder / name).write_bytes(b"y")
    path = tree.root / f"trash/{STAMP}/manifests/registry.ollama.ai/library/x/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest(*[b"precious %d" % number for number in range(4)]))
    (tree.root / "protected").mkdir()
    return tree


class Swap:
    """A hook that lets a link to *outside* take the place of *folder* at the *call*-th call."""

    def __init__(self, folder: Path, outside: Path, call: int) -> None:
        self.folder, self.outside, self.left = folder, outside, call
        self.swapped = False

    def __call__(self, call: Call) -> None:
        self.left -= 1
        if self.left == 0 and self.folder.is_dir() and not self.folder.is_symlink():
            self.swapped = True
            self.folder.rename(self.folder.with_name(self.folder.name + "-moved"))
            self.folder.symlink_to(self.outside)


FOLDERS = [
    "trash",
    f"trash/{STAMP}",
    f"trash/{STAMP}/blobs",
    f"trash/{STAMP}/manifests/registry.ollama.ai/library/x",
    "condemned",
    f"condemned/{STAMP}",
    "blobs",
    "manifests",
    "manifests/registry.ollama.ai",
    "manifests/registry.ollama.ai/library",
    "manifests/registry.ollama.ai/library/old",
]


def prune(tree: Tree) -> None:
    later(tree.root, MONTH).prune(age=0, all=True)


def verify(tree: Tree) -> None:
    (tree.blobs / blob(b"k")).unlink(missing_ok=True)
    later(tree.root).verify(repair=True)


def delete(tree: Tree) -> None:
    later(tree.root).unlink("old")


def restore(tree: Tree) -> None:
    later(tree.root).restore("x")


@pytest.mark.parametrize("work", [prune, verify, delete, restore])
@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_outside_changes(
    victim: Tree,
    outside: Path,
    folder: str,
    work: Callable[[Tree], None],
    effort: Effort,
) -> None:
    """The swap comes before each change; in the exhaustive tier, at a part of all moments."""
    moments = (*CHANGING, *READING) if effort.everything else CHANGING
    before = contents(outside)
    pristine = victim.root.with_name("pristine")
    shutil.copytree(victim.root, pristine, symlinks=True)
    with watched(nothing, moments) as seam, suppress(RegistryError):
        work(victim)
    calls = range(1, len(seam.calls) + 1)
    for call in shard(calls) if effort.everything else calls:
        shutil.rmtree(victim.root)
        shutil.copytree(pristine, victim.root, symlinks=True)
        swap = Swap(victim.root / folder, outside, call)
        with watched(swap, moments), suppress(RegistryError):
            work(victim)
        assert contents(outside) == before, f"swapped at call {call}"


def test_what_a_link_puts_elsewhere_is_not_moved_there(victim: Tree, outside: Path) -> None:
    """A link that was there from the start, to a folder that looks like a part of a store."""
    before = contents(outside)
    for name in ("trash", "condemned", "protected"):
        (victim.root / name).rename(victim.root / f"{name}-moved")
        (victim.root / name).symlink_to(outside)
    for work in (delete, prune, restore):
        with pytest.raises(RegistryError, match="link"):
            work(victim)
    with pytest.raises(RegistryError, match="link"):
        later(victim.root).protect("m")
    assert contents(outside) == before


def test_a_models_directory_that_is_a_link_is_followed(tmp_path: Path) -> None:
    """Whoever names it has chosen it."""
    tree = Tree(tmp_path / "real")
    tree.add("m", b"weights")
    link = tmp_path / "models"
    os.symlink("real", link)
    cache = later(link)
    assert cache.unlink("m")
    assert cache.restore("m")
    assert cache.prune(age=0, all=True).models == 1
