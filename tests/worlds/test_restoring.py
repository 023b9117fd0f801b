"""What was deleted can be restored: each of it, and whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clocks import A_DAY, later
from kit.downloads import age
from kit.trees import HOST, Tree, blob, broken, manifest
from registry_wsgi import RegistryError
from registry_wsgi.__main__ import main

pytestmark = pytest.mark.world

MONTH = 30 * A_DAY


def run(tree: Tree, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["--models", str(tree.root), *arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def versions(tree: Tree) -> list[bytes]:
    """Three versions of one model, each deleted an hour after the one before."""
    made = []
    for number in range(3):
        path = tree.add("m", b"version %d" % number)
        age(path, A_DAY)
        made.append(path.read_bytes())
        later(tree.root, (number - 3) * A_DAY / 24).unlink("m")
    return made


@pytest.mark.parametrize("which", range(3))
def test_an_older_delete_of_a_name_can_be_chosen(
    tree: Tree, versions: list[bytes], which: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(tree, capsys, "deleted", "--json")
    moments = sorted(model["deleted"] for model in json.loads(said))
    assert (code, len(moments)) == (0, 3)
    code, said = run(tree, capsys, "restore", "m", "--at", moments[which])
    assert code == 0, said
    assert tree.path("m").read_bytes() == versions[which]
    assert len(later(tree.root).deleted()) == 2
    assert broken(tree.root) == []


def test_a_moment_at_which_nothing_was_deleted_is_refused(
    tree: Tree, versions: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(tree, capsys, "restore", "m", "--at", "2020-01-01")
    assert code != 0
    assert "m" in said
    assert len(later(tree.root).deleted()) == 3


def dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "unreadable": lambda path: path.write_bytes(b"{"),
    "empty": lambda path: path.write_bytes(b""),
    "too large": lambda path: os.truncate(path, 20 << 20),
    "without its blobs": lambda path: path.write_bytes(manifest(b"gone")),
    "a dangling link": dangling_link,
    "a folder": folder,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_whole_older_one_is_not_hidden_by_a_broken_newer_one(tree: Tree, how: str) -> None:
    first = tree.add("m", b"good").read_bytes()
    later(tree.root, -A_DAY).unlink("m")
    tree.add("m", b"bad")
    cache = later(tree.root)
    cache.unlink("m")
    newest = max(tree.trash.iterdir())
    BROKEN[how](newest / "manifests" / HOST / "library" / "m" / "latest")
    cache.restore("m")
    assert tree.path("m").read_bytes() == first
    assert broken(tree.root) == []


def test_two_manifests_in_one_entry_survive_each_other(tree: Tree) -> None:
    """As somebody has merged two entries, or copied one into another."""
    for name in ("a", "b"):
        tree.add(name, name.encode(), b"shared")
        later(tree.root, -A_DAY).unlink(name)
    one, other = sorted(tree.trash.iterdir())
    place = f"manifests/{HOST}/library/b"
    (other / place).rename(one / place)
    for path in (other / "blobs").iterdir():
        path.replace(one / "blobs" / path.name)
    cache = later(tree.root)
    cache.restore("a")
    for path in tree.blobs.iterdir():  # another program sweeps
        if path.read_bytes() == b"b":
            path.unlink()
    assert [model.restorable for model in cache.deleted()] == [True]
    cache.restore("b")
    assert broken(tree.root) == []
    assert cache.deleted() == []


def test_one_of_two_in_an_entry_can_be_removed_for_good(tree: Tree) -> None:
    for name in ("a", "b"):
        tree.add(name, name.encode())
        later(tree.root, -A_DAY).unlink(name)
    one, other = sorted(tree.trash.iterdir())
    place = f"manifests/{HOST}/library/b"
    (other / place).rename(one / place)
    report = later(tree.root).prune(age=0)
    assert report.models == 2
    assert list(tree.trash.iterdir()) == []


# Links


def test_a_protected_tag_that_is_a_link_keeps_what_it_leads_to(tree: Tree) -> None:
    path = tree.add("m/v1", b"a")
    (path.parent / "prod").symlink_to("v1")
    cache = later(tree.root)
    cache.protect("m:prod")
    assert cache.prune(age=0, all=True).models == 0
    assert {model.name for model in cache.models()} == {
        f"{HOST}/library/m:prod",
        f"{HOST}/library/m:v1",
    }
    assert broken(tree.root) == []


@pytest.mark.parametrize("level", ["model", "namespace", "host"])
def test_so_does_a_protected_folder_that_is_a_link(tree: Tree, level: str) -> None:
    path = tree.add("example.com/team/m/v1", b"a")
    real = {"model": path.parent, "namespace": path.parents[1], "host": path.parents[2]}[level]
    (real.parent / "alias").symlink_to(real.name)
    alias = {"model": "example.com/team/alias:v1", "namespace": "example.com/alias/m:v1"}
    cache = later(tree.root)
    cache.protect(alias.get(level, "alias/team/m:v1"))
    cache.prune(age=0, all=True)
    assert len(cache.models()) == 2
    assert broken(tree.root) == []


def test_what_a_protected_tag_leads_to_cannot_be_deleted(tree: Tree) -> None:
    path = tree.add("m/v1", b"a")
    (path.parent / "prod").symlink_to("v1")
    cache = later(tree.root)
    cache.protect("m:prod")
    with pytest.raises(RegistryError, match="protected"):
        cache.unlink("m:v1")
    assert broken(tree.root) == []


def test_a_tag_that_is_a_link_is_deleted_and_restored(tree: Tree) -> None:
    path = tree.add("m/v1", b"a")
    (path.parent / "prod").symlink_to("v1")
    before = tree.files()
    cache = later(tree.root)
    assert cache.unlink("m:prod")
    assert [model.name for model in cache.models()] == [f"{HOST}/library/m:v1"]
    cache.restore("m:prod")
    assert tree.files() == before


@pytest.mark.parametrize("how", ["relative", "absolute", "out"])
def test_a_blob_that_is_a_link_is_kept_and_comes_back(tree: Tree, tmp_path: Path, how: str) -> None:
    """Large blobs may be kept on another disk."""
    tree.add("m", b"weights")
    tree.add("other", b"x")
    path = tree.blobs / blob(b"weights")
    place = tmp_path / "disk" if how == "out" else tree.root / "large"
    place.mkdir()
    path.rename(place / "weights")
    path.symlink_to(place / "weights" if how != "relative" else os.path.join("..", "large/weights"))
    cache = later(tree.root)
    later(tree.root, MONTH).prune(age=0)
    assert broken(tree.root) == []
    cache.unlink("m")
    assert [model.restorable for model in cache.deleted()] == [True]
    path.unlink()  # another program sweeps
    if cache.deleted()[0].restorable:
        cache.restore("m")
        assert broken(tree.root) == []
        cache.unlink("m")
    later(tree.root, MONTH).prune(age=0)
    assert (place / "weights").read_bytes() == b"weights"
    assert not path.is_symlink()
