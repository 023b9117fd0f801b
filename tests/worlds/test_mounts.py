"""Rule 7: mounts within a store, and layers below it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from kit.clocks import A_DAY, later
from kit.os_seam import Call, watched
from kit.trees import HOST, Tree, blob, broken, contents
from kit.worlds import Overlay, Worlds
from registry_wsgi import LocalRegistry, RegistryError

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY
PARTS = [
    "manifests",
    f"manifests/{HOST}",
    f"manifests/{HOST}/library",
    f"manifests/{HOST}/library/one",
    "blobs",
    "trash",
]


@pytest.fixture(params=PARTS)
def parted(worlds: Worlds, root: Path, request: pytest.FixtureRequest) -> Tree:
    """A store of which a part is on another file system."""
    tree = Tree(root)
    for name in ("one", "two"):
        tree.add(name, name.encode(), b"shared")
    part = root / request.param
    part.mkdir(exist_ok=True)
    other = worlds.ext4()
    os.rmdir(other / "lost+found")
    shutil.copytree(part, other, dirs_exist_ok=True)
    worlds.bind(other, part)
    return tree


@pytest.mark.parametrize("options", [{}, {"retention": 0}])
def test_a_delete_over_http(parted: Tree, options: dict[str, Any]) -> None:
    cache = later(parted.root, **options)
    answer = Client(LocalRegistry(None, cache)).delete("/api/delete", json={"model": "one"})
    assert answer.status_code == 200
    assert [model.name for model in cache.models()] == [f"{HOST}/library/two:latest"]
    assert len(cache.deleted()) == (1 if not options else 0)
    assert broken(parted.root) == []


def test_a_restore(parted: Tree) -> None:
    before = parted.files()
    cache = later(parted.root)
    cache.unlink("one")
    cache.restore("one")
    assert parted.files() == before
    assert cache.deleted() == []


def test_everything_goes_in_the_end(parted: Tree) -> None:
    later(parted.root).unlink("one")
    later(parted.root, MONTH).prune()
    later(parted.root, 2 * MONTH).prune()
    assert not (parted.blobs / blob(b"one")).exists()
    assert broken(parted.root) == []
    report = later(parted.root, 2 * MONTH).prune(age=0, all=True)
    assert report.models == 1
    assert [path.name for path in parted.blobs.iterdir() if path.is_file()] == []
    assert later(parted.root).models() == []


def test_what_another_program_sweeps_can_be_restored_or_is_said_to_be_gone(parted: Tree) -> None:
    """Between two file systems there are no links, and so nothing that holds a blob."""
    cache = later(parted.root)
    cache.unlink("one")
    (parted.blobs / blob(b"one")).unlink()
    [model] = cache.deleted()
    if model.restorable:
        cache.restore("one")
    else:
        assert model.missing
        with pytest.raises(RegistryError):
            cache.restore("one")
    assert broken(parted.root) == []


def test_a_dry_run_says_what_a_run_does(parted: Tree) -> None:
    parted.add_blob(b"left over")
    later(parted.root).unlink("one")
    cache = later(parted.root)
    dry, real = cache.prune(age=0, dry_run=True), cache.prune(age=0)
    assert (dry.models, dry.blobs, dry.bytes) == (real.models, real.blobs, real.bytes)


@pytest.mark.parametrize("options", [{}, {"age": 0}, {"age": "1d"}])
def test_blobs_elsewhere_go_in_two_phases_or_not_at_all(
    worlds: Worlds, root: Path, options: dict[str, Any]
) -> None:
    """Nothing is removed from where a pull may just have found it."""
    tree = Tree(root)
    worlds.bind(worlds.ext4(), tree.blobs)
    tree.add("keep", b"k")
    tree.add_blob(b"left over")
    removed_in_place = []

    def hook(call: Call) -> None:
        name = os.path.basename(call.path)
        if name == blob(b"left over") and (tree.blobs / name).exists():
            removed_in_place.append(name)

    with watched(hook, ["unlink"]):
        for passed in (MONTH, 2 * MONTH):
            try:
                later(root, passed).prune(**options)
            except RegistryError as error:
                assert "blobs" in str(error)
    assert removed_in_place == []
    assert broken(root) == []


# Layers


@pytest.fixture
def baked(worlds: Worlds) -> Overlay:
    """Models of 40 MB in the layers of an image, and hardly any room above them."""
    lower = worlds.folder("lower")
    tree = Tree(lower)
    tree.add("baked", os.urandom(1 << 20) * 20)
    tree.add("other", os.urandom(1 << 20) * 20)
    return worlds.overlay(lower, 4)


@pytest.mark.parametrize("retention", ["7d", "0"])
def test_a_delete_copies_nothing_up(baked: Overlay, retention: str) -> None:
    client = Client(LocalRegistry(None, later(baked.root, retention=retention)))
    assert client.delete("/api/delete", json={"model": "baked"}).status_code == 200
    assert baked.copied_up() < 1 << 16
    assert len(later(baked.root).models()) == 1


def test_it_can_be_taken_back(baked: Overlay) -> None:
    before = contents(baked.root)
    cache = later(baked.root)
    cache.unlink("baked")
    assert [model.restorable for model in cache.deleted()] == [True]
    cache.restore("baked")
    assert contents(baked.root) == before
    assert baked.copied_up() < 1 << 16


@pytest.mark.parametrize("options", [{}, {"age": 0}, {"age": 0, "all": True}])
def test_a_prune_copies_nothing_up(baked: Overlay, options: dict[str, Any]) -> None:
    later(baked.root).unlink("baked")
    later(baked.root, MONTH).prune(**options)
    later(baked.root, 2 * MONTH).prune(**options)
    assert baked.copied_up() < 1 << 16
    sizes = [path.stat().st_size for path in (baked.root / "blobs").iterdir()]
    assert sum(sizes) < (1 << 20) * (1 if "all" in options else 21)
    assert broken(baked.root) == []


def test_a_pull_above_the_layers_is_as_any_other(baked: Overlay) -> None:
    tree = Tree.__new__(Tree)
    tree.root, tree.blobs = baked.root, baked.root / "blobs"
    tree.manifests, tree.trash = baked.root / "manifests", baked.root / "trash"
    tree.add("new", b"weights")
    cache = later(baked.root)
    cache.unlink("new")
    (tree.blobs / blob(b"weights")).unlink()
    cache.restore("new")
    assert broken(baked.root) == []
