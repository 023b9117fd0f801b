"""Rule 7: a full disk can be freed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from werkzeug.test import Client

from kit.clocks import A_DAY, later
from kit.trees import Tree, blob, broken, manifest
from kit.worlds import Worlds, fill, take_all_inodes
from registry_wsgi import LocalRegistry
from registry_wsgi.__main__ import main

pytestmark = pytest.mark.world


def ext4(worlds: Worlds) -> tuple[Path, Callable[[Path], None]]:
    return worlds.ext4(), fill


def ext4_without_inodes(worlds: Worlds) -> tuple[Path, Callable[[Path], None]]:
    return worlds.ext4(inodes=128), take_all_inodes


def ext4_without_both(worlds: Worlds) -> tuple[Path, Callable[[Path], None]]:
    def take_all(place: Path) -> None:
        take_all_inodes(place)
        (place / "fillers" / "0").rename(place / "filler")
        fill(place)

    return worlds.ext4(inodes=128), take_all


def tmpfs(worlds: Worlds) -> tuple[Path, Callable[[Path], None]]:
    return worlds.tmpfs(), fill


def xfs(worlds: Worlds) -> tuple[Path, Callable[[Path], None]]:
    return worlds.xfs(), fill


@pytest.fixture(params=[ext4, ext4_without_inodes, ext4_without_both, tmpfs, xfs])
def full(worlds: Worlds, request: pytest.FixtureRequest) -> Tree:
    """A store on a file system without room, with four models, one of them deleted before."""
    place, take_all = request.param(worlds)
    tree = Tree(place / "models")
    for name in ("one", "two", "three", "old"):
        tree.add(name, name.encode() * 10_000)
    later(tree.root).unlink("old")
    take_all(place)
    return tree


def left(tree: Tree) -> list[str]:
    return [model.name.rpartition("/")[2].split(":")[0] for model in later(tree.root).models()]


def test_a_final_delete_frees_it(full: Tree) -> None:
    client = Client(LocalRegistry(None, later(full.root, retention=0)))
    assert client.delete("/api/delete", json={"model": "one"}).status_code == 200
    assert left(full) == ["three", "two"]
    later(full.root, retention=0).prune(age=0)
    assert not (full.blobs / blob(b"one" * 10_000)).exists()
    assert broken(full.root) == []


def test_a_prune_of_age_zero_frees_it(full: Tree) -> None:
    path = full.blobs / blob(b"old" * 10_000)
    assert main(["--models", str(full.root), "prune", "--yes", "--age", "0"]) == 0
    assert not path.exists()
    assert later(full.root).deleted() == []
    assert broken(full.root) == []


def test_forgetting_one_model_frees_its_space(full: Tree) -> None:
    later(full.root, retention=0).unlink("one")
    report = later(full.root).forget("old", quiet_store=True)
    assert (report.models, report.bytes) == (1, 30_000)
    assert not (full.blobs / blob(b"old" * 10_000)).exists()
    assert (full.blobs / blob(b"one" * 10_000)).exists()
    assert broken(full.root) == []


def test_with_all_every_model_goes_and_a_dry_run_says_so(full: Tree) -> None:
    cache = later(full.root)
    dry, real = cache.prune(age=0, all=True, dry_run=True), cache.prune(age=0, all=True)
    assert (dry.models, dry.blobs, dry.bytes) == (real.models, real.blobs, real.bytes)
    assert real.models == 4
    assert list(full.blobs.iterdir()) == []


def test_what_has_expired_goes_without_a_word_of_zero(full: Tree) -> None:
    path = full.blobs / blob(b"old" * 10_000)
    for passed in (8 * A_DAY, 10 * A_DAY):
        later(full.root, passed).prune()
    assert not path.exists()
    assert broken(full.root) == []


def test_a_delete_that_can_be_taken_back_happens_or_says_that_there_is_no_room(
    full: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--models", str(full.root), "rm", "one"])
    said = capsys.readouterr()
    names = [model.name.rpartition("/")[2] for model in later(full.root).deleted()]
    if code == 0:
        assert "one:latest" in names
        assert main(["--models", str(full.root), "restore", "one"]) == 0
    else:
        assert "No space left" in said.err
        assert "one:latest" not in names
    assert sorted(left(full)) == ["one", "three", "two"]
    assert broken(full.root) == []


def test_a_deleted_model_comes_back_or_stays_where_it_is(full: Tree) -> None:
    code = main(["--models", str(full.root), "restore", "old"])
    assert ("old" in left(full)) == (code == 0)
    assert [model.restorable for model in later(full.root).deleted()] == [True] * (code != 0)
    assert broken(full.root) == []


def test_what_is_aside_and_needed_comes_back(worlds: Worlds) -> None:
    place = worlds.ext4()
    tree = Tree(place / "models")
    run = tree.root / "condemned" / "2026-01-01T00-00-00.000000Z-00000000"
    run.mkdir(parents=True)
    (run / blob(b"weights")).write_bytes(b"weights")
    tree.add_blob(b"{}")
    tree.write("again", manifest(b"weights"))
    fill(place)
    later(tree.root).prune(age=0)
    assert broken(tree.root) == []


def test_a_store_that_may_only_be_read_is_listed_and_checked(worlds: Worlds) -> None:
    """And each change is refused, in a dry run as in the run."""
    tree = Tree(worlds.ext4() / "models")
    tree.add("one", b"1")
    tree.add_blob(b"left over")
    worlds.bind(tree.root, read_only=True)
    cache = later(tree.root)
    assert left(tree) == ["one"]
    assert cache.verify(deep=True).ok
    for options in ([], ["--dry-run"]):
        code = main(["--models", str(tree.root), "prune", "--yes", "--age", "0", *options])
        assert code == 1, options
    assert main(["--models", str(tree.root), "rm", "one"]) == 1
    assert os.listdir(tree.root) == ["blobs", "manifests"] or len(os.listdir(tree.root)) == 2
