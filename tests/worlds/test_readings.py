"""
Rule 1: absence is not evidence.

Only what was read, in a reading during which nothing moved, counts as needing nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import A_DAY, later
from kit.os_seam import Call, watched
from kit.trees import Tree, broken, manifest
from kit.users import SERVICE, command_as, give
from kit.worlds import Worlds
from registry_wsgi import DiskStore, LocalRegistry, ModelCache, RegistryError
from registry_wsgi.__main__ import main

pytestmark = [pytest.mark.world, pytest.mark.usefixtures("hasty")]

MONTH = 30 * A_DAY


# Renames while a census is taken


class Restless:
    """
    A hook that moves a model, as soon as a reading is about to look at it, to its other name.

    As Ollama renames: it copies the manifest, then removes the old one.
    """

    def __init__(self, tree: Tree, one: str, other: str, moves: float) -> None:
        self.tree, self.at, self.other, self.moves = tree, one, other, moves
        self.busy = False

    def __call__(self, call: Call) -> None:
        if self.busy or self.moves <= 0:
            return
        here, there = self.tree.path(self.at), self.tree.path(self.other)
        looked_at = os.path.basename(call.path)
        if looked_at not in {part for part in here.parts[-4:] if part not in there.parts}:
            return
        self.busy = True
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, there)
        here.unlink()
        for folder in here.parents[:3]:
            if any(folder.iterdir()):
                break
            folder.rmdir()
        self.at, self.other = self.other, self.at
        self.moves -= 1
        self.busy = False


WAYS = {
    "models": ("aa", "zz"),
    "tags": ("m/aa", "m/zz"),
    "namespaces": ("registry.ollama.ai/aa/m/latest", "registry.ollama.ai/zz/m/latest"),
    "hosts": ("aa.example.com/x/m/latest", "zz.example.com/x/m/latest"),
}


@pytest.mark.parametrize("moves", [1, 2, 3, float("inf")])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("age", [timedelta(days=7), timedelta()], ids=["usual age", "age 0"])
def test_a_model_that_is_renamed_keeps_its_blobs(
    tree: Tree, way: str, moves: float, age: timedelta
) -> None:
    one, other = WAYS[way]
    for first, second in ((one, other), (other, one)):
        tree.add(first, b"weights")
        tree.add("keep", b"k")
        hook = Restless(tree, first, second, moves)
        with watched(hook, ("listdir", "scandir", "open", "stat", "lstat")):
            for cache in (later(tree.root, MONTH), later(tree.root, 2 * MONTH)):
                try:
                    cache.prune(age=age)
                except RegistryError as error:
                    assert "manifests" in str(error)
        later(tree.root, 2 * MONTH).prune()
        assert broken(tree.root) == []
        shutil.rmtree(tree.manifests)


def test_what_was_set_aside_comes_back_or_goes_once_it_is_quiet(tree: Tree) -> None:
    tree.add("zz", b"weights")
    tree.add_blob(b"left over")
    with watched(Restless(tree, "zz", "aa", float("inf")), ("listdir", "scandir", "open", "stat")):
        try:
            later(tree.root, MONTH).prune()
        except RegistryError as error:
            assert "manifests" in str(error)
    later(tree.root, 2 * MONTH).prune()
    assert broken(tree.root) == []
    assert len(list(tree.blobs.iterdir())) == 2


# A manifest that is replaced and keeps its times


class Deployed(DiskStore):
    """A store where somebody deploys as soon as a blob has been set aside."""

    deploy: Callable[[], object]

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Any]:
        yield from super().condemn(names, when)
        self.deploy()


def with_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-p", source, target], check=True)


def with_tar(source: Path, target: Path) -> None:
    packed = subprocess.run(
        ["tar", "-C", source.parent, "-cf", "-", source.name], check=True, capture_output=True
    )
    unpack: list[str | Path] = ["tar", "--overwrite", "-C", target.parent, "-xf", "-"]
    subprocess.run(unpack, input=packed.stdout, check=True)


def in_place(source: Path, target: Path) -> None:
    with target.open("r+b") as file:
        file.write(source.read_bytes())
    os.utime(target, (1, 1))


def by_a_rename(source: Path, target: Path) -> None:
    spare = target.parent.parent / "spare"
    shutil.copy2(source, spare)
    spare.rename(target)


@pytest.mark.parametrize("deploy", [with_cp, with_tar, in_place, by_a_rename])
def test_a_manifest_replaced_by_one_of_the_same_time_and_size_is_read_again(
    tree: Tree, tmp_path: Path, deploy: Callable[[Path, Path], None]
) -> None:
    target = tree.add("m", b"version-1")
    tree.add_blob(b"version-2")
    source = tmp_path / "latest"
    source.write_bytes(manifest(b"version-2"))
    for path in (source, target):
        os.utime(path, (1, 1))
    store = Deployed(tree.root)
    store.deploy = lambda: deploy(source, target)
    ModelCache(store, clock=lambda: time.time() + MONTH.total_seconds()).prune(age="1d")
    assert broken(tree.root) == []


# What is not there


def absent_disk(tree: Tree, path: Path) -> str:
    """Put *path* on a disk of its own, which is then taken away."""
    disk = tree.root.parent / "disk"
    path.rename(disk)
    path.symlink_to(disk)
    disk.rename(disk.with_name("absent"))
    return path.name


def a_loop(tree: Tree, path: Path) -> str:
    """Let a link take the place of *path* that leads to itself."""
    path.rename(tree.root.parent / "absent")
    path.symlink_to(path)
    return path.name


def a_link_through_a_file(tree: Tree, path: Path) -> str:
    """Let a link take the place of *path* that leads below a file."""
    path.rename(tree.root.parent / "absent")
    (tree.root.parent / "file").touch()
    path.symlink_to(tree.root.parent / "file" / "below")
    return path.name


def come_back(tree: Tree, path: Path) -> None:
    path.unlink()
    (tree.root.parent / "absent").rename(path)


LEVELS = {"tag": 0, "model": 1, "namespace": 2, "host": 3, "manifests": 4}


@pytest.mark.parametrize("leave", [absent_disk, a_loop, a_link_through_a_file])
@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_leads_nowhere_stops_the_sweep(
    tree: Tree, level: str, leave: Callable[[Tree, Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_path = tree.add("example.com/team/big/v1", b"weights")
    tree.add("here", b"here")
    path = [manifest_path, *manifest_path.parents][LEVELS[level]]
    name = leave(tree, path)
    for options in ({}, {"age": "1d"}, {"age": 0, "all": True}):
        with pytest.raises(RegistryError, match=name):
            later(tree.root, MONTH).prune(**options)
        with pytest.raises(RegistryError, match=name):
            later(tree.root, MONTH).prune(**options, dry_run=True)
    assert main(["--models", str(tree.root), "prune", "--yes", "--age", "0"]) == 1
    assert name in capsys.readouterr().err
    come_back(tree, path)
    assert broken(tree.root) == []
    assert later(tree.root).verify().ok


def test_a_delete_succeeds_and_takes_no_blob_while_a_disk_is_absent(tree: Tree) -> None:
    from werkzeug.test import Client

    path = tree.add("big", b"weights").parent
    tree.add("here", b"here")
    tree.add("old", b"weights", b"old")
    later(tree.root).unlink("old")
    absent_disk(tree, path)
    client = Client(LocalRegistry(None, later(tree.root, MONTH)))
    assert client.delete("/api/delete", json={"model": "here"}).status_code == 200
    come_back(tree, path)
    assert broken(tree.root) == []


@pytest.mark.parametrize("level", LEVELS)
def test_what_another_user_hides_stops_the_sweep(
    worlds: Worlds, shared_tree: Tree, level: str
) -> None:
    manifest_path = shared_tree.add("example.com/team/big/v1", b"weights")
    shared_tree.add("here", b"here")
    path = [manifest_path, *manifest_path.parents][LEVELS[level]]
    give(SERVICE, shared_tree.root)
    os.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)
    for age in ("0", "1s"):
        code, said = command_as(
            SERVICE, "--models", shared_tree.root, "prune", "--yes", "--age", age
        )
        assert code == 1
        assert path.name in said
    assert broken(shared_tree.root) == []


def test_a_mount_that_did_not_come_up_stops_the_sweep(worlds: Worlds, tree: Tree) -> None:
    tree.add("big", b"weights")
    worlds.bind(worlds.folder("empty"), tree.manifests)
    with pytest.raises(RegistryError, match="--age 0"):
        later(tree.root, MONTH).prune()
    with pytest.raises(RegistryError, match="--age 0"):
        later(tree.root, MONTH).prune(dry_run=True)
    worlds.unmount()
    assert broken(tree.root) == []


def test_it_stops_the_sweep_although_something_was_deleted_before(tree: Tree) -> None:
    tree.add("big", b"weights")
    tree.add("old", b"old")
    later(tree.root).unlink("old")
    tree.manifests.rename(tree.root / "away")
    tree.manifests.mkdir()
    with pytest.raises(RegistryError, match="--age 0"):
        later(tree.root, MONTH).prune()
    tree.manifests.rmdir()
    (tree.root / "away").rename(tree.manifests)
    assert broken(tree.root) == []


def test_age_zero_is_the_way_out_of_an_empty_tree(tree: Tree) -> None:
    tree.add_blob(b"left over")
    assert later(tree.root).prune(age=0).blobs == 1


def test_a_store_whose_last_model_was_deleted_is_pruned_as_any_other(tree: Tree) -> None:
    tree.add("one", b"1")
    tree.add("two", b"2")
    for name in ("one", "two"):
        later(tree.root).unlink(name)
    assert later(tree.root, 8 * A_DAY).prune().models == 2
    later(tree.root, MONTH).prune()
    assert list(tree.blobs.iterdir()) == []


def test_an_empty_store_is_pruned_as_any_other(tree: Tree) -> None:
    assert later(tree.root, MONTH).prune().blobs == 0
