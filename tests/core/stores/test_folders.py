"""The folders of manifests: what each store says of them, and what on a disk is out of reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kit.clocks import Clock
from kit.kinds import KINDS, Kind
from kit.trees import Tree
from kit.views import version
from registry_wsgi import DiskStore
from registry_wsgi.errors import OutOfReachError
from registry_wsgi.stores.base import Folder

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "registry.ollama.ai/library/other/latest"


@pytest.fixture(params=["disk", "memory"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """An empty store of each kind that has folders."""
    return KINDS[request.param](tmp_path, Clock())


def rest() -> None:
    """Wait until what was changed just now is not fresh any more."""
    time.sleep(0.03)


def look(kind: Kind) -> dict[str, Folder]:
    """All folders, by path, after a moment of rest."""
    rest()
    return {folder.path: folder for folder in kind.store.folders()}


def test_folders_are_the_same_while_nothing_comes_or_goes(kind: Kind) -> None:
    """A manifest that is read, or written again in its place, changes no folder of a disk."""
    kind.put_manifest(KEY, b"{}")
    before = look(kind)
    assert None not in [folder.mark for folder in before.values()]
    list(kind.store.read_all())
    list(kind.store.versions())
    assert look(kind) == before


def test_a_folder_is_another_when_something_came_or_went(kind: Kind) -> None:
    """A manifest that comes, one that goes, and one that came and went again change a mark."""
    kind.put_manifest(KEY, b"{}")
    empty = look(kind)
    kind.put_manifest(OTHER, b"{}")
    both = look(kind)
    assert kind.store.discard(OTHER, (), 1.0)
    one = look(kind)
    marks = [sorted(str(folder.mark) for folder in seen.values()) for seen in (empty, both, one)]
    assert len({str(mark) for mark in marks}) == 3


def test_a_change_of_just_now_has_no_mark(tmp_path: Path) -> None:
    """Where another change could keep the times of a directory, it has no mark."""
    tree, store = Tree(tmp_path / "models"), DiskStore(tmp_path / "models")

    def changed_just_now(number: int) -> bool:
        tree.write(f"registry.ollama.ai/library/smol/{number}", b"{}")
        return None in [folder.mark for folder in store.folders()]

    # On a busy machine some looks come too late.
    assert any(map(changed_just_now, range(100)))


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    """A host with nothing in it is empty, whatever else there is."""
    tree = Tree(tmp_path / "models")
    tree.write(KEY, b"{}")
    (tree.manifests / "hf.co").mkdir()
    folders = {folder.path: folder.empty for folder in DiskStore(tree.root).folders()}
    assert folders["hf.co"]
    assert not folders["registry.ollama.ai"]
    assert not folders[""]


def test_a_bucket_has_no_folders(tmp_path: Path) -> None:
    """Where there are only keys, none are listed."""
    kind = KINDS["bucket"](tmp_path, Clock())
    kind.put_manifest(KEY, b"{}")
    assert list(kind.store.folders()) == []


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_link_that_leads_nowhere_is_out_of_reach(tmp_path: Path, depth: int) -> None:
    """Where a folder or a tag should be, its path is listed with an error that names it."""
    tree = Tree(tmp_path / "models")
    tree.write(KEY, b"{}")
    path = "/".join(["hf.co", "ns", "away", "v1"][:depth])
    link = tree.manifests / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "away")
    found = dict(DiskStore(tree.root).read_all())
    assert found.keys() == {KEY, path}
    assert isinstance(found[path], OutOfReachError)
    assert str(link) in str(found[path])


def test_a_hidden_link_stands_for_no_model(tmp_path: Path) -> None:
    """No name begins with a dot: a link that an editor makes as its lock is passed over."""
    tree = Tree(tmp_path / "models")
    tree.write(KEY, b"{}")
    (tree.manifests / ".#notes").symlink_to("root@here.1234")
    assert dict(DiskStore(tree.root).read_all()).keys() == {KEY}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_directory_that_cannot_be_entered_is_out_of_reach(tmp_path: Path) -> None:
    """It is listed with an error that says why, and the others are listed all the same."""
    tree = Tree(tmp_path / "models")
    tree.write(KEY, b"{}")
    tree.write("hf.co/ns/closed/v1", b"{}")
    (tree.manifests / "hf.co" / "ns").chmod(0o700)
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        found = dict(DiskStore(tree.root).read_all())
        error = found.get("hf.co/ns")
        good = found.keys() == {KEY, "hf.co/ns"} and isinstance(error, OutOfReachError)
        os._exit(0 if good and "Permission denied" in str(error) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_copy_with_the_same_time_and_size_is_another_version(tmp_path: Path) -> None:
    """A manifest that is written over in its place, its mtime set back, counts as changed."""
    tree = Tree(tmp_path / "models")
    path = tree.write(KEY, b"{1}")
    os.utime(path, (1, 1))
    rest()
    before = version(DiskStore(tree.root), KEY)
    source = tmp_path / "source"
    source.write_bytes(b"{2}")
    os.utime(source, (1, 1))
    inode = path.stat().st_ino
    subprocess.run([shutil.which("cp") or "cp", "-p", source, path], check=True)
    rest()
    assert path.stat().st_ino == inode
    assert before is not None
    assert version(DiskStore(tree.root), KEY) not in (None, before)
