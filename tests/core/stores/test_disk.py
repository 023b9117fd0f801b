"""The store in a directory: its layout, its file system, and whatever may lie in it."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import registry_wsgi
from kit.faults import FailAt, Once, failing, without_links
from kit.inside import tick_for
from kit.os_seam import READING, Call, Seam, watched
from kit.trees import HOST, Tree, blob, broken, contents, digest, manifest
from kit.views import keys, purge, version
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelExistsError,
    ModelIncompleteError,
    NoRoomError,
    OutOfReachError,
    RegistryError,
    StoreError,
)
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Condemned, Deleted

KEY = f"{HOST}/library/smol/latest"
WHEN = 1_700_000_000.25
ID = "2023-11-14T22-13-20.250000Z-"  # WHEN, as an entry of the trash has it

A_TICK = 0.03  # longer than one of the clock that stamps files, in seconds

# What the system says where hard links are not to be had.
NO_LINKS = [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS]

# What it says when a change fails.
FAILURES = [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO]

LAYERS = (b"weights", b"template")
BLOBS = {blob(data): data for data in (*LAYERS, b"{}")}


def named(numbers: list[int]) -> pytest.MarkDecorator:
    """Parameters with the names of the errors."""
    return pytest.mark.parametrize(
        "number", numbers, ids=[errno.errorcode.get(number, "none") for number in numbers]
    )


@pytest.fixture
def store(tree: Tree) -> DiskStore:
    """A store with one model."""
    tree.add("smol", *LAYERS)
    return DiskStore(tree.root)


def discard(store: DiskStore, key: str = KEY, *, when: float = WHEN) -> Deleted:
    """Move the manifest at *key*, with the blobs that are there, to the trash."""
    entry = store.discard(key, BLOBS, when)
    assert entry is not None
    return entry


def condemn(store: DiskStore, *names: str) -> list[Condemned]:
    """Set the blobs *names* aside."""
    return list(store.condemn(names, WHEN))


def sweep(tree: Tree) -> None:
    """Remove from the blobs what no listed model names, as Ollama does at each start."""
    needed = set()
    for path in tree.manifests.glob("*/*/*/*"):
        document = json.loads(path.read_bytes())
        for layer in [*document["layers"], document["config"]]:
            needed.add(layer["digest"].replace(":", "-"))
    for path in tree.blobs.iterdir():
        if path.name not in needed:
            path.unlink()


def snapshot(root: Path, *, without: Path | None = None) -> dict[str, tuple[object, ...]]:
    """All below *root*, but for what is below *without*, with what tells that it was changed."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != without]
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            about: tuple[object, ...] = (status.st_mode, status.st_ino)
            if stat.S_ISLNK(status.st_mode):
                about += (os.readlink(path),)
            elif stat.S_ISREG(status.st_mode):
                about += (status.st_mtime_ns, path.read_bytes())
            found[str(path)] = about
    return found


def directories(root: Path) -> set[str]:
    """All directories below *root*."""
    return {
        str(Path(folder, name).relative_to(root))
        for folder, names, _ in os.walk(root)
        for name in names
    }


# The layout


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """A root that is not there, or is a file, is an error that names it, and nothing is made."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path in (tmp_path / "missing", file, file / "below"):
        with pytest.raises(StoreError, match=str(path)):
            DiskStore(path)
    assert list(tmp_path.iterdir()) == [file]


def test_a_bare_root_is_an_empty_store(tmp_path: Path) -> None:
    """A directory with nothing in it has no models and no trash, and stays bare."""
    store = DiskStore(tmp_path)
    assert keys(store) == []
    assert store.find(Name.from_key(KEY)) is None
    assert store.read(KEY) is None
    assert version(store, KEY) is None
    assert store.blob("sha256-aa") is None
    assert store.open_blob("sha256-aa") is None
    assert store.discard(KEY, ["sha256-aa"], WHEN) is None
    assert store.deleted() == []
    assert list(store.condemned()) == []
    store.tidy(math.inf)
    assert [path for path in contents(tmp_path) if path] == []
    assert directories(tmp_path) <= {"trash"}


def test_a_deleted_model_lies_in_the_trash_as_a_store_of_its_own(
    tree: Tree, store: DiskStore
) -> None:
    """The entry has its manifest under the same path, and hard links to its blobs."""
    manifest_file = tree.path("smol").stat()
    tree.add("example.com/ns/other/v1", b"other")
    entry = discard(store)
    assert entry.id.startswith(ID)
    assert entry.when == WHEN
    assert contents(tree.trash) == {
        f"{entry.id}/manifests/{KEY}": manifest(*LAYERS),
        **{f"{entry.id}/blobs/{name}": data for name, data in BLOBS.items()},
    }
    moved = tree.trash / entry.id / "manifests" / KEY
    assert (moved.stat().st_ino, moved.stat().st_mtime) == (
        manifest_file.st_ino,
        manifest_file.st_mtime,
    )
    for name in BLOBS:
        assert (tree.trash / entry.id / "blobs" / name).samefile(tree.blobs / name)
    inner = DiskStore(tree.trash / entry.id)
    assert keys(inner) == [KEY]
    assert set(inner.blobs()) == set(BLOBS)
    [model] = ModelCache(inner).models()
    assert str(model) == f"{HOST}/library/smol:latest"
    assert model.size == sum(map(len, BLOBS.values()))
    assert broken(tree.trash / entry.id) == []


def test_a_delete_leaves_the_rest_as_it_was(tree: Tree, store: DiskStore) -> None:
    """Outside of the trash one manifest is gone, with its empty directories, and nothing else."""
    tree.add("smol/v1", *LAYERS)
    tree.add("example.com/ns/other/v1", b"other")
    before = tree.files()
    del before[f"manifests/{KEY}"]
    discard(store)
    assert tree.files() == before
    del before[f"manifests/{HOST}/library/smol/v1"]
    discard(store, f"{HOST}/library/smol/v1")
    assert tree.files() == before
    assert directories(tree.manifests) == {
        "example.com",
        "example.com/ns",
        "example.com/ns/other",
    }


def test_a_restored_model_is_the_same_files_and_leaves_no_trace(
    tree: Tree, store: DiskStore
) -> None:
    """After a delete and a restore the store is as it was, to the file, and the trash is empty."""
    before = snapshot(tree.root)
    assert store.recover(discard(store)) is True
    after = snapshot(tree.root)
    assert set(after) - set(before) <= {str(tree.trash)}
    files = [path for path in before if Path(path).is_file()]
    assert {path: after[path] for path in files} == {path: before[path] for path in files}
    assert list(tree.trash.iterdir()) == []
    assert {path.stat().st_nlink for path in tree.blobs.iterdir()} == {1}


def test_what_is_set_aside_is_renamed(tree: Tree, store: DiskStore) -> None:
    """A blob that is set aside is the same file under ``condemned/``, and leaves no trace there."""
    file = (tree.blobs / blob(b"weights")).stat().st_ino
    [aside] = condemn(store, blob(b"weights"))
    assert aside.id.startswith(ID)
    path = tree.root / "condemned" / aside.id / blob(b"weights")
    assert path.stat().st_ino == file
    assert store.pardon(aside) is True
    assert (tree.blobs / blob(b"weights")).stat().st_ino == file
    store.tidy(math.inf)
    assert list((tree.root / "condemned").iterdir()) == []


def test_a_run_that_sets_nothing_aside_leaves_no_trace(tree: Tree, store: DiskStore) -> None:
    """Blobs that are gone, or a run that ends before the first, leave no directory behind."""
    assert condemn(store, "sha256-gone", "sha256-gone-too") == []
    assert condemn(store) == []
    assert not any((tree.root / "condemned").glob("*"))


def test_nothing_of_ours_lies_where_ollama_looks(tree: Tree) -> None:
    """Under ``blobs/`` and ``manifests/`` only blobs and manifests are ever made."""
    made: list[Path] = []

    def hook(call: Call) -> None:
        if call.name in ("link", "rename"):
            made.append(Path(call.arguments[1]))
        elif call.name in ("create", "mkdir"):
            made.append(Path(call.arguments[0]))

    tree.add("smol", *LAYERS)
    (tree.blobs / "sha256-old-partial").write_bytes(b"x")
    store = DiskStore(tree.root)
    cache = ModelCache(store, clock=lambda: time.time() + 90)
    for links in (True, False):
        with watched(hook), watched(failing(0 if links else errno.EPERM, "" if links else "link")):
            assert cache.unlink("smol")
            (tree.blobs / blob(b"weights")).unlink()
            if not links:
                tree.add_blob(b"weights")
            cache.restore("smol")
            [aside] = condemn(store, blob(b"weights"))
            assert store.pardon(aside)
            cache.unlink("smol")
            cache.prune(age=0, dry_run=True)
            cache.restore("smol")
            cache.prune(age=10)
    assert broken(tree.root) == []
    ours = [path for path in made if path.is_relative_to(tree.root)]
    in_blobs = {path.name for path in ours if path.is_relative_to(tree.blobs)}
    assert in_blobs <= {*BLOBS, "blobs"}
    assert blob(b"weights") in in_blobs
    deep = {
        path.relative_to(tree.manifests).as_posix()
        for path in ours
        if path.is_relative_to(tree.manifests) and len(path.relative_to(tree.manifests).parts) >= 4
    }
    assert deep == {KEY}
    others = {path.relative_to(tree.root).parts[0] for path in ours}
    assert others <= {"blobs", "manifests", "trash", "condemned", "history.jsonl"}


def test_a_sweep_by_another_program_takes_nothing_that_can_be_restored(
    tree: Tree, store: DiskStore
) -> None:
    """After Ollama has removed what no model names, a deleted model still comes back whole."""
    tree.add("other", b"other", b"template")
    cache = ModelCache(store)
    assert cache.unlink("smol")
    sweep(tree)
    assert not (tree.blobs / blob(b"weights")).exists()
    assert (tree.blobs / blob(b"template")).exists()
    [deleted] = cache.deleted()
    assert deleted.restorable
    assert cache.restore("smol") == deleted.name
    assert tree.path("smol").read_bytes() == manifest(*LAYERS)
    assert broken(tree.root) == []
    assert cache.deleted() == []


@pytest.mark.parametrize(
    "when", [0.0, 1.5, WHEN, 1_700_000_000.1, 1_700_000_000.123_456_7, 4_102_444_800.999_999]
)
def test_the_moment_of_a_delete_is_read_from_the_trash(
    store: DiskStore, tree: Tree, when: float
) -> None:
    """The entry that a delete gives is the one that the trash lists, to the microsecond."""
    entry = discard(store, when=when)
    assert DiskStore(tree.root).deleted() == [entry]
    assert when - 0.000_002 <= entry.when <= when


# Empty directories


def test_a_directory_into_which_something_came_stays(tree: Tree, store: DiskStore) -> None:
    """What a pull writes just as a delete tidies up is not removed, at whatever level."""
    came: list[Path] = []

    def pull(path: str, *more: object) -> None:
        if Path(path).is_relative_to(tree.manifests):
            came.append(Path(path, "came" if len(came) else "tag"))
            came[-1].write_bytes(manifest(b"new"))

    with watched(Once("rmdir", pull)):
        discard(store)
    assert came == [tree.path("smol/tag")]
    assert came[0].read_bytes() == manifest(b"new")
    assert not tree.path("smol").exists()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_only_empty_directories_go(tree: Tree, store: DiskStore, level: int) -> None:
    """A directory that has something else in it stays, and so does all above it."""
    place = tree.path("smol").parents[level - 1]
    (place / "note").write_bytes(b"mine")
    discard(store)
    assert (place / "note").read_bytes() == b"mine"
    assert not any(path.is_dir() for path in place.iterdir())


def test_manifests_itself_stays(tree: Tree, store: DiskStore) -> None:
    """The last delete leaves ``manifests/`` and ``blobs/`` in place."""
    discard(store)
    assert tree.manifests.is_dir()
    assert list(tree.manifests.iterdir()) == []
    assert len(list(tree.blobs.iterdir())) == len(BLOBS)


@named([errno.EACCES, errno.EBUSY, errno.EIO, errno.ENOTEMPTY, errno.ENOENT])
def test_a_delete_is_done_though_directories_stay(
    tree: Tree, store: DiskStore, number: int
) -> None:
    """An empty directory that cannot be removed is no error."""
    with watched(failing(number, "rmdir")):
        discard(store)
    assert tree.path("smol").parent.is_dir()
    assert not tree.path("smol").exists()
    assert len(store.deleted()) == 1


# Directories that vanish


def test_a_trash_entry_that_vanishes_is_made_again(tree: Tree, store: DiskStore) -> None:
    """When another process tidies the entry away just before the rename, a new one is made."""
    vanish = Once(
        "rename", lambda source, target: shutil.rmtree(Path(target).parents[4]), where=_to_trash
    )
    with watched(vanish):
        entry = discard(store)
    assert vanish.done
    assert store.deleted() == [entry]
    assert os.listdir(tree.trash) == [entry.id]
    assert set(os.listdir(tree.trash / entry.id / "blobs")) == set(BLOBS)


def test_a_trash_that_vanishes_is_made_again(tree: Tree, store: DiskStore) -> None:
    """The same when all of the trash is removed by hand."""
    vanish = Once("rename", lambda source, target: shutil.rmtree(tree.trash))
    with watched(vanish):
        entry = discard(store)
    assert vanish.done
    assert store.deleted() == [entry]


@pytest.mark.parametrize("step", ["mkdir", "link"])
def test_a_trash_entry_that_vanishes_early_is_made_again(
    tree: Tree, store: DiskStore, step: str
) -> None:
    """The same when it vanishes before its blobs are linked: they are held all the same."""

    def vanish(source: str, *more: str) -> None:
        shutil.rmtree(Path(source if step == "mkdir" else more[0]).parents[step == "link"])

    def in_entry(source: str, *more: object) -> bool:
        return step == "link" or source.endswith("blobs")

    once = Once(step, vanish, where=in_entry)
    with watched(once):
        entry = discard(store)
    assert once.done
    assert store.deleted() == [entry]
    assert all(store.blob_in_trash(entry, name) for name in BLOBS)


@pytest.mark.parametrize("levels", [1, 2, 3])
@named([0, *NO_LINKS])
def test_a_place_that_vanishes_is_made_again(
    tree: Tree, store: DiskStore, levels: int, number: int
) -> None:
    """When another process tidies the empty directories away, a restore makes them again."""
    entry = discard(store)

    def vanish(*arguments: Any) -> None:
        folder = tree.path("smol").parent
        for _ in range(levels):
            folder.rmdir()
            folder = folder.parent

    def in_place(*arguments: Any) -> bool:
        return str(tree.path("smol")) in arguments

    once = Once("create" if number else "link", vanish, where=in_place)
    links = failing(number, "link") if number else failing(0)
    with watched(once), watched(links):
        assert store.recover(entry) is True
    assert once.done
    assert tree.path("smol").read_bytes() == manifest(*LAYERS)
    assert store.deleted() == []


def test_a_place_that_comes_and_goes_is_made_again(tree: Tree, store: DiskStore) -> None:
    """The same when another restore makes a directory and another delete removes it at once."""
    entry = discard(store)
    folder = str(tree.path("smol").parent)
    come = Once("mkdir", lambda path, *more: os.mkdir(path), where=lambda *path: path[0] == folder)
    go = Once(
        "open",
        lambda path, *more: os.rmdir(path),
        where=lambda path, *more: come.done and path == folder,
    )
    with watched(go, ["open"]), watched(come):
        assert store.recover(entry) is True
    assert go.done
    assert in_place(tree)


def test_a_run_directory_that_vanishes_loses_nothing(tree: Tree, store: DiskStore) -> None:
    """When what is to hold a blob vanishes, the blob is set aside all the same, or left alone."""
    tries = itertools.count()

    def vanish(source: str, target: str) -> None:
        if next(tries) == 0:
            Path(target).parent.rmdir()

    with watched(lambda call: vanish(*call.arguments[:2]), ["rename"]):
        asides = condemn(store, *BLOBS)
    names = [aside.name for aside in asides]
    assert sorted([*names, *store.blobs()]) == sorted(BLOBS)
    assert list(store.condemned()) == sorted(asides)


def test_an_entry_that_always_vanishes_is_an_error(tree: Tree, store: DiskStore) -> None:
    """After some tries a delete gives up, and the model is in its place."""

    def vanish(call: Call) -> None:
        shutil.rmtree(tree.trash)

    with watched(vanish, ["rename"]), pytest.raises(StoreError, match=str(tree.trash)):
        discard(store)
    assert tree.path("smol").read_bytes() == manifest(*LAYERS)
    assert store.deleted() == []


def test_a_place_that_always_vanishes_is_an_error(tree: Tree, store: DiskStore) -> None:
    """After some tries a restore gives up, and the model is in the trash."""
    entry = discard(store)

    def vanish(call: Call) -> None:
        tree.path("smol").parent.rmdir()

    with watched(vanish, ["link"]), pytest.raises(StoreError, match=str(tree.path("smol"))):
        store.recover(entry)
    assert store.deleted() == [entry]
    assert store.recover(entry) is True


def test_a_missing_blobs_directory_is_made_for_what_comes_back(
    tree: Tree, store: DiskStore
) -> None:
    """A restore makes ``blobs/`` again when another program has removed it."""
    entry = discard(store)
    shutil.rmtree(tree.blobs)
    assert all(store.recover_blob(entry, name) for name in BLOBS)
    assert store.recover(entry) is True
    assert broken(tree.root) == []


def test_a_blobs_directory_that_vanishes_is_made_again(tree: Tree, store: DiskStore) -> None:
    """The same when it is removed just as a blob is put back."""
    entry = discard(store)
    shutil.rmtree(tree.blobs)
    with watched(Once("rename", lambda source, target: tree.blobs.rmdir())):
        assert store.recover_blob(entry, blob(b"weights")) is True
    assert (tree.blobs / blob(b"weights")).read_bytes() == b"weights"
    assert set(os.listdir(tree.trash / entry.id / "blobs")) == set(BLOBS)


def test_a_missing_blobs_directory_is_made_for_a_pardon(tree: Tree, store: DiskStore) -> None:
    """The same for a blob that is set aside: its place is free, so it is put back."""
    asides = condemn(store, *BLOBS)
    tree.blobs.rmdir()
    assert [store.pardon(aside) for aside in asides] == [True] * len(BLOBS)
    assert broken(tree.root) == []


def test_a_manifest_that_vanishes_is_gone(tree: Tree, store: DiskStore) -> None:
    """When another deletes it just before the rename, a delete gives None and leaves no trace."""
    with watched(Once("rename", lambda source, target: os.unlink(source))):
        assert store.discard(KEY, BLOBS, WHEN) is None
    assert list(tree.trash.iterdir()) == []
    assert {path.stat().st_nlink for path in tree.blobs.iterdir()} == {1}


def test_an_entry_that_vanishes_is_gone(tree: Tree, store: DiskStore) -> None:
    """When another forgets it just before the link, a restore gives False and leaves no trace."""
    entry = discard(store)
    with watched(Once("link", lambda source, target: shutil.rmtree(tree.trash / entry.id))):
        assert store.recover(entry) is False
    assert list(tree.manifests.iterdir()) == []


def _to_trash(source: str, target: str) -> bool:
    return "trash" in Path(target).parts


# Without hard links


@named(NO_LINKS)
def test_without_links_a_model_is_deleted_and_restored(
    tree: Tree, store: DiskStore, number: int
) -> None:
    """Where there are no hard links, delete, list and restore work for as long as blobs stay."""
    cache = ModelCache(store)
    before = tree.files()
    with watched(failing(number, "link")):
        assert cache.unlink("smol")
        [deleted] = cache.deleted()
        assert deleted.restorable
        [entry] = store.deleted()
        assert contents(tree.trash) == {f"{entry.id}/manifests/{KEY}": manifest(*LAYERS)}
        assert all(store.blob_in_trash(entry, name) is None for name in BLOBS)
        assert cache.restore("smol") == deleted.name
    assert tree.files() == before
    assert list(tree.trash.iterdir()) == []


@named(NO_LINKS)
def test_without_links_a_sweep_by_another_program_takes_the_blobs(
    tree: Tree, store: DiskStore, number: int
) -> None:
    """What then is gone is named by its digest, and nothing is changed."""
    cache = ModelCache(store)
    with watched(failing(number, "link")):
        assert cache.unlink("smol")
        sweep(tree)
        [deleted] = cache.deleted()
        assert not deleted.restorable
        assert set(deleted.missing) == {digest(data) for data in BLOBS.values()}
        before = contents(tree.root)
        with pytest.raises(ModelIncompleteError, match=digest(b"weights")) as caught:
            cache.restore("smol")
        assert set(caught.value.missing) == set(deleted.missing)
        assert contents(tree.root) == before


@named(NO_LINKS)
def test_without_links_a_prune_works(tree: Tree, store: DiskStore, number: int) -> None:
    """What is deleted is kept until it expires, and then goes, and what is needed again stays."""
    now = time.time()
    cache = ModelCache(store, clock=lambda: now)
    tree.add("other", b"other", b"template")
    with watched(failing(number, "link")):
        assert cache.unlink("smol")
        cache.prune(age="1d")
        assert cache.deleted()[0].restorable
        report = cache.prune(age=0)
    assert (report.models, report.blobs, report.bytes) == (1, 1, len(b"weights"))
    assert cache.deleted() == []
    assert list(store.condemned()) == []
    assert broken(tree.root) == []
    assert not (tree.blobs / blob(b"weights")).exists()


@pytest.mark.parametrize("step", ["forget", "read_deleted", "recover"])
def test_a_link_in_the_trash_that_leads_back_into_the_store_is_not_followed(
    tree: Tree, store: DiskStore, step: str
) -> None:
    """The model that is in place is not taken for the deleted one."""
    entry = discard(store)
    tree.add("smol", b"new")
    shutil.rmtree(tree.trash / entry.id)
    tree.trash.joinpath(entry.id).symlink_to(tree.root)
    before = tree.files()
    with pytest.raises(StoreError, match="is a symbolic link"):
        getattr(store, step)(entry)
    assert tree.files() == before


def test_a_restored_blob_is_on_the_disk_before_the_trash_lets_go(
    tree: Tree, store: DiskStore
) -> None:
    """Its new name in blobs is synced before its name in the trash is removed."""
    entry = discard(store)
    name = blob(LAYERS[0])
    tree.blobs.joinpath(name).unlink()
    calls: list[tuple[str, str]] = []
    with watched(lambda call: calls.append((call.name, os.path.normpath(call.path)))):
        assert store.recover_blob(entry, name)
        assert store.recover(entry)
    dropped = calls.index(("unlink", str(tree.trash / entry.id / "blobs" / name)))
    assert ("fsync", str(tree.blobs)) in calls[:dropped]


def test_a_manifest_is_on_the_disk_of_the_trash_before_the_original_goes(
    tree: Tree, store: DiskStore
) -> None:
    """Where the trash is on another disk: the copy, its name, and the folders on the way there."""
    original = tree.path("smol")
    calls: list[tuple[str, str]] = []

    def act(call: Call) -> None:
        calls.append((call.name, os.path.normpath(call.path)))
        if call.name == "rename" and call.path == str(original):
            raise call.error(errno.EXDEV)

    with watched(act):
        entry = discard(store)
    gone = calls.index(("unlink", str(original)))
    synced = {path for name, path in calls[:gone] if name == "fsync"}
    folder = tree.trash / entry.id / "manifests" / KEY
    assert {str(path) for path in folder.parents if tree.trash in (path, *path.parents)} <= synced


@named(NO_LINKS)
@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_without_links_a_restore_never_overwrites(
    tree: Tree, store: DiskStore, number: int, moment: str
) -> None:
    """A manifest that is there, or comes at the last moment, stays, and so does the deleted one."""
    entry = discard(store)

    def pull(*arguments: Any) -> None:
        tree.write("smol", manifest(b"new"))

    if moment == "before":
        pull()
    with (
        watched(Once("create", pull)),
        watched(failing(number, "link")),
        pytest.raises(ModelExistsError),
    ):
        store.recover(entry)
    assert tree.path("smol").read_bytes() == manifest(b"new")
    found = store.read_deleted(entry)
    assert found is not None
    assert found.data == manifest(*LAYERS)


def test_a_restore_never_overwrites_what_comes_meanwhile(tree: Tree, store: DiskStore) -> None:
    """The same with hard links: a pull that ends just before the link wins."""
    entry = discard(store)
    pull = Once("link", lambda *arguments: tree.write("smol", manifest(b"new")))
    with watched(pull), pytest.raises(ModelExistsError):
        store.recover(entry)
    assert tree.path("smol").read_bytes() == manifest(b"new")
    assert store.deleted() == [entry]


def test_what_was_in_the_way_of_a_restore_may_be_deleted_meanwhile(
    tree: Tree, store: DiskStore
) -> None:
    """When a model comes just before the link and goes right after, nothing is in the way."""
    entry = discard(store)
    come = Once("link", lambda *arguments: tree.write("smol", manifest(b"new")))

    def is_place(path: str, *more: object) -> bool:
        return come.done and path == str(tree.path("smol"))

    go = Once("stat", lambda path, *more: os.unlink(path), where=is_place)
    with watched(go, ["stat"]), watched(come, ["link"]):
        assert store.recover(entry) is True
    assert go.done
    assert tree.path("smol").read_bytes() == manifest(*LAYERS)
    assert store.deleted() == []


@named(NO_LINKS)
def test_without_links_a_pardon_renames(tree: Tree, store: DiskStore, number: int) -> None:
    """A blob is put back, and never over another."""
    name = blob(b"weights")
    with watched(failing(number, "link")):
        [aside] = condemn(store, name)
        assert store.pardon(aside) is True
        assert (tree.blobs / name).read_bytes() == b"weights"
        [aside] = condemn(store, name)
        (tree.blobs / name).write_bytes(b"new")
        assert store.pardon(aside) is False
        assert (tree.blobs / name).read_bytes() == b"new"
        assert list(store.condemned()) == [aside]


@pytest.mark.parametrize("by", ["pardon", "purge"])
def test_without_links_a_pardon_may_be_overtaken(tree: Tree, store: DiskStore, by: str) -> None:
    """When another puts the blob back, or removes it, just before the rename, it gives False."""
    name = blob(b"weights")
    [aside] = condemn(store, name)

    def overtake(source: str, target: str) -> None:
        os.rename(source, target) if by == "pardon" else os.unlink(source)

    with watched(Once("rename", overtake)), watched(failing(errno.EPERM, "link")):
        assert store.pardon(aside) is False
    assert list(store.condemned()) == []
    assert (store.blob(name) is not None) == (by == "pardon")


def test_a_pardon_never_overwrites_what_comes_meanwhile(tree: Tree, store: DiskStore) -> None:
    """A download that ends just before a blob is put back stays."""
    name = blob(b"weights")
    [aside] = condemn(store, name)
    with watched(Once("link", lambda source, target: Path(target).write_bytes(b"new"))):
        assert store.pardon(aside) is False
    assert (tree.blobs / name).read_bytes() == b"new"
    assert store.condemned_blob(aside) is not None


def test_a_pardon_that_was_killed_is_finished(tree: Tree, store: DiskStore) -> None:
    """A blob that is in both places is left in its own."""
    name = blob(b"weights")
    [aside] = condemn(store, name)
    os.link(tree.root / "condemned" / aside.id / name, tree.blobs / name)
    assert store.pardon(aside) is True
    assert list(store.condemned()) == []
    assert (tree.blobs / name).read_bytes() == b"weights"


def test_a_restore_that_was_killed_is_finished(tree: Tree, store: DiskStore) -> None:
    """A manifest that is in both places is left in its own, and the trash is emptied."""
    entry = discard(store)
    place = tree.path("smol")
    place.parent.mkdir(parents=True)
    os.link(tree.trash / entry.id / "manifests" / KEY, place)
    assert store.recover(entry) is True
    assert place.read_bytes() == manifest(*LAYERS)
    assert list(tree.trash.iterdir()) == []


def full_at_the_copy(tree: Tree, meanwhile: Callable[[], object] = lambda: None) -> Seam:
    """A disk without links that has no room for the bytes of a manifest's copy."""

    def act(call: Call) -> None:
        without_links(call)
        if call.name == "fsync" and call.path == str(tree.path("smol")):
            meanwhile()
            raise call.error(errno.ENOSPC)

    return watched(act)


def test_without_links_a_full_disk_leaves_no_half_manifest(tree: Tree, store: DiskStore) -> None:
    """When the copy of the manifest does not fit, it is taken away again, and the trash has it."""
    entry = discard(store)
    with full_at_the_copy(tree), pytest.raises(NoRoomError, match=str(tree.root)):
        store.recover(entry)
    assert not tree.path("smol").exists()
    assert store.recover(entry) is True
    assert tree.path("smol").read_bytes() == manifest(*LAYERS)


def test_without_links_a_restore_that_fails_leaves_the_manifest_of_another(
    tree: Tree, store: DiskStore
) -> None:
    """A pull puts its manifest over the unfinished copy by a rename; that manifest stays."""
    entry = discard(store)

    def pull() -> None:
        new = tree.root / "new"
        new.write_bytes(manifest(b"new"))
        new.replace(tree.path("smol"))

    with full_at_the_copy(tree, pull), pytest.raises(NoRoomError):
        store.recover(entry)
    assert tree.path("smol").read_bytes() == manifest(b"new")
    assert store.deleted() == [entry]


# Errors


def put_back(store: DiskStore) -> Callable[[], object]:
    """A restore as the cache does it, with the blobs that another program has swept."""
    entry = discard(store)
    for name in BLOBS:
        store.remove_blob(name)

    def step() -> object:
        for name in BLOBS:
            if store.blob(name) is None:
                store.recover_blob(entry, name)
        return store.recover(entry)

    return step


def with_entry(name: str) -> Callable[[DiskStore], Callable[[], object]]:
    """The method *name* on what was deleted."""

    def prepare(store: DiskStore) -> Callable[[], object]:
        entry = discard(store)
        return lambda: getattr(store, name)(entry)

    return prepare


def deletion(store: DiskStore) -> Callable[[], object]:
    """A delete."""
    return lambda: store.discard(KEY, BLOBS, WHEN)


STEPS = {
    "discard": deletion,
    "recover": with_entry("recover"),
    "recover blobs": put_back,
    "forget": with_entry("forget"),
}


def in_place(tree: Tree) -> bool:
    """Whether the model is in its place, whole."""
    path = tree.path("smol")
    return path.is_file() and path.read_bytes() == manifest(*LAYERS) and broken(tree.root) == []


def in_trash(tree: Tree) -> bool:
    """Whether the model is in the trash, whole: manifest and all blobs, held or in place."""
    store = DiskStore(tree.root)
    return any(
        found.data == manifest(*LAYERS)
        and all(
            any(
                place.is_file() and place.read_bytes() == data
                for place in (tree.blobs / name, tree.trash / entry.id / "blobs" / name)
            )
            for name, data in BLOBS.items()
        )
        for entry in store.deleted()
        if (found := store.read_deleted(entry))
    )


@pytest.mark.parametrize(
    ("number", "on"),
    [*((number, False) for number in FAILURES), (errno.EROFS, True)],
    ids=[*(errno.errorcode[number] for number in FAILURES), "EROFS from then on"],
)
@pytest.mark.parametrize(
    ("step", "links"),
    [*((step, True) for step in STEPS), ("discard", False), ("recover", False)],
    ids=[*STEPS, "discard without links", "recover without links"],
)
def test_whatever_fails_the_model_is_whole(
    tmp_path: Path, step: str, links: bool, on: bool, number: int
) -> None:
    """Whichever change fails: an error that names the path, a whole model, and a way on."""
    steps = 0
    for k in itertools.count(1):
        tree = Tree(tmp_path / str(k))
        tree.add("smol", *LAYERS)
        store = DiskStore(tree.root)
        fail = FailAt(k, number, on=on)
        linking = failing(0) if links else failing(errno.EOPNOTSUPP, "link")
        with watched(linking):
            take = STEPS[step](store)
            error = None
            with watched(fail):
                try:
                    take()
                except StoreError as raised:
                    error = raised
        if not fail.failed:
            assert error is None
            break
        steps += 1
        if error is None:
            # It is done: what failed was to tidy up, or to make a directory that was there.
            left = store.deleted()
            if step == "discard":
                assert in_trash(tree), k
                assert len(left) == 1, k
            elif step == "forget":
                assert left == [], k
            else:
                assert in_place(tree), k
                assert len(left) <= 1, k
            continue
        _check(error, number, tree)
        if step == "forget":
            assert not tree.path("smol").exists(), k
            assert all((tree.blobs / name).exists() for name in BLOBS), k
        else:
            assert in_place(tree) or in_trash(tree), k
        if step == "discard":
            assert in_place(tree), k
            assert store.deleted() == [], k
        with watched(linking):
            try:
                take()
            except ModelExistsError:
                # Without links nobody knows that the two are one: the one in the trash may go.
                assert step == "recover", k
                assert not links, k
                assert in_place(tree), k
                assert in_trash(tree), k
                store.forget(store.deleted()[0])
        store.tidy(math.inf)
        if step == "discard":
            assert in_trash(tree), k
            assert len(store.deleted()) == 1, k
        else:
            assert in_place(tree) == (step != "forget"), k
            assert list(tree.trash.iterdir()) == [], k
            assert {path.stat().st_nlink for path in tree.blobs.iterdir()} == {1}, k
    assert steps >= 4


def _check(error: StoreError, number: int, tree: Tree) -> None:
    """The error names a path in the store, and what the system said is its cause."""
    assert str(tree.root) in str(error)
    assert os.strerror(number) in str(error)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == number
    assert isinstance(error, NoRoomError) == (number == errno.ENOSPC)


@named(FAILURES)
@pytest.mark.parametrize("step", ["condemn", "pardon", "purge", "remove_blob"])
def test_whatever_fails_no_blob_is_lost(tmp_path: Path, step: str, number: int) -> None:
    """Whichever change fails, a blob is in its place or aside, and the next attempt succeeds."""
    name = blob(b"weights")
    for k in itertools.count(1):
        tree = Tree(tmp_path / str(k))
        tree.add("smol", *LAYERS)
        store = DiskStore(tree.root)

        def take(store: DiskStore = store) -> object:
            if step == "condemn":
                return condemn(store, name)
            if step == "remove_blob":
                return store.remove_blob(name)
            end = store.pardon if step == "pardon" else partial(purge, store)
            return [end(aside) for aside in store.condemned()]

        if step in ("pardon", "purge"):
            condemn(store, name)
        fail = FailAt(k, number, on=False)
        error = None
        with watched(fail):
            try:
                take()
            except StoreError as raised:
                error = raised
        if not fail.failed:
            break
        aside = [look for look in map(store.condemned_blob, store.condemned()) if look]
        own = store.blob(name)
        assert own or aside, k
        assert all(look.size == 7 for look in [*aside, own] if look), k
        if error is not None:
            _check(error, number, tree)
            take()
        expected = {"condemn": (False, 1), "pardon": (True, 0)}.get(step, (False, 0))
        assert (store.blob(name) is not None, len(list(store.condemned()))) == expected, k
    assert k > 1


@named([errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    "step",
    [
        *("find", "find other", "read", "versions", "blobs", "blob", "open_blob"),
    ],
)
def test_what_cannot_be_looked_at_is_an_error(
    tree: Tree, store: DiskStore, step: str, number: int
) -> None:
    """A look that the system refuses is an error that names the path, never an empty answer."""
    steps: dict[str, Callable[[], object]] = {
        "find": lambda: store.find(Name.from_key(KEY)),
        "find other": lambda: store.find(Name.from_key(KEY.upper())),
        "read": lambda: store.read(KEY),
        "versions": lambda: list(store.versions()),
        "blobs": lambda: list(store.blobs()),
        "blob": lambda: store.blob(blob(b"weights")),
        "open_blob": lambda: store.open_blob(blob(b"weights")),
    }
    refused = [name for name in READING if name not in ("stat", "fstat", "read", "close")]
    hook = failing(number, *refused, *(["stat"] if step == "versions" else []))
    with watched(hook, READING), pytest.raises(StoreError, match=str(tree.root)) as caught:
        steps[step]()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number


@named([errno.EACCES, errno.EIO])
def test_a_trash_that_cannot_be_listed_is_an_error(
    tree: Tree, store: DiskStore, number: int
) -> None:
    """Nobody may take a trash for empty that cannot be read: its blobs are needed."""
    entry = discard(store)
    with watched(failing(number, "listdir"), READING):
        with pytest.raises(StoreError, match=str(tree.trash)):
            store.deleted()
        with pytest.raises(StoreError, match=str(tree.root)):
            list(store.condemned())
    with watched(failing(number, "scandir"), READING):
        [(unreadable, error)] = store.read_all_deleted()
    assert unreadable == entry._replace(key="")
    assert isinstance(error, StoreError)
    assert str(tree.trash) in str(error)


def test_a_restore_is_done_though_another_writes_into_the_trash(
    tree: Tree, store: DiskStore
) -> None:
    """What comes into an entry just as it is removed is left for the next `tidy`."""
    entry = discard(store)

    def spare(path: str, *more: object) -> None:
        Path(path, "spare").write_bytes(b"x")

    once = Once("rmdir", spare, where=lambda path, *more: str(path).endswith("blobs"))
    with watched(once):
        assert store.recover(entry) is True
    assert in_place(tree)
    store.tidy(math.inf)
    assert list(tree.trash.iterdir()) == []


# Hostile content


@pytest.fixture
def outside(tmp_path: Path, tree: Tree) -> Tree:
    """Another store, which is none of our business, beside one with two models."""
    tree.add("smol", *LAYERS)
    tree.add("keep", b"kept", b"template")
    other = Tree(tmp_path / "outside")
    other.add("theirs", b"theirs", *LAYERS)
    other.add("smol", *LAYERS)
    for folder, name in (("trash", f"{ID}00000000"), ("condemned", f"{ID}11111111")):
        place = other.root / folder / name
        (place / "manifests" / HOST / "library" / "old").mkdir(parents=True)
        (place / "manifests" / HOST / "library" / "old" / "latest").write_bytes(manifest(b"x"))
        (place / "blobs").mkdir()
        (place / "blobs" / blob(b"x")).write_bytes(b"x")
        (place / blob(b"y")).write_bytes(b"y")
    (other.root / "empty").mkdir()
    return other


def everything(store: DiskStore) -> list[RegistryError]:
    """Take every step there is, at every model but ``keep``; the errors that came of it."""
    errors = []

    def attempt(step: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            result = step(*arguments, **options)
            return list(result) if isinstance(result, Iterator) else result
        except RegistryError as error:
            errors.append(error)
            return ()

    cache = ModelCache(store, clock=lambda: time.time() + 1)
    keys = {*dict(attempt(store.versions)), KEY, f"{HOST}/library/old/latest"}
    keys.discard(f"{HOST}/library/keep/latest")
    for _ in range(2):
        attempt(cache.models)
        attempt(cache.deleted)
        for key in sorted(keys):
            attempt(store.read, key)
            attempt(store.discard, key, [*BLOBS, blob(b"theirs"), blob(b"x")], WHEN)
            attempt(cache.unlink, str(Name.from_key(key)))
        for name in [*attempt(store.blobs), *BLOBS, blob(b"theirs"), blob(b"x"), blob(b"y")]:
            attempt(store.blob, name)
            attempt(lambda name: getattr(store.open_blob(name), "close", list)(), name)
        attempt(cache.prune, age="1d", dry_run=True)
        attempt(cache.prune, age="1d", deleted_only=True)
        attempt(cache.prune, age="1d")
        attempt(store.tidy, math.inf)
        for entry in [*attempt(store.deleted), Deleted(WHEN, f"{ID}00000000", KEY)]:
            attempt(store.read_deleted, entry)
            for name in [*BLOBS, blob(b"x"), blob(b"theirs")]:
                attempt(store.blob_in_trash, entry, name)
                attempt(store.recover_blob, entry, name)
            attempt(store.recover, entry)
        for key in sorted(keys):
            attempt(cache.restore, str(Name.from_key(key)))
            attempt(cache.unlink, str(Name.from_key(key)))
        for entry in attempt(store.deleted):
            attempt(store.forget, entry)
        attempt(store.condemn, [blob(b"theirs"), "sha256-alias"], WHEN)
        asides = [Condemned(WHEN, f"{ID}11111111", blob(b"y")) for _ in range(2)]
        for aside in [*attempt(store.condemned), *asides]:
            attempt(store.condemned_blob, aside)
            attempt(store.pardon, aside)
            attempt(purge, store, aside)
        attempt(cache.prune, age=0)
        attempt(store.tidy, math.inf)
    return errors


def link(root: Path, path: str, target: str) -> None:
    """Make *path* a symbolic link to *target*, in place of what is there."""
    place = root / path
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target, target_is_directory=True)


ENTRY = f"{ID}00000000"
RUN = f"{ID}11111111"
MODEL = f"manifests/{HOST}/library/smol"

# A path in the store, and where a symbolic link there leads; "{out}" is the other store.
LINKS = {
    "host": ("manifests/evil", f"{{out}}/manifests/{HOST}"),
    "host, relative": ("manifests/evil", f"../../outside/manifests/{HOST}"),
    "host, to the root": ("manifests/evil", "../.."),
    "host, dangling": ("manifests/evil", "{out}/nothing"),
    "host, loop": ("manifests/evil", "evil"),
    "host, to the blobs": ("manifests/evil", "../blobs"),
    "host, to a file": ("manifests/evil", f"{{out}}/blobs/{blob(b'theirs')}"),
    "namespace": ("manifests/h/evil", f"{{out}}/manifests/{HOST}/library"),
    "model": (MODEL, f"{{out}}/manifests/{HOST}/library/smol"),
    "model, dangling": (MODEL, "{out}/nothing"),
    "manifest": (f"{MODEL}/latest", f"{{out}}/manifests/{HOST}/library/smol/latest"),
    "manifest, dangling": (f"{MODEL}/latest", "{out}/nothing"),
    "manifest, loop": (f"{MODEL}/latest", "latest"),
    "manifest, to a directory": (f"{MODEL}/latest", "{out}/blobs"),
    "manifest, to a device": (f"{MODEL}/latest", "/dev/zero"),
    "manifests": ("manifests", "{out}/manifests"),
    "manifests, dangling": ("manifests", "{out}/nothing"),
    "blobs": ("blobs", "{out}/blobs"),
    "blobs, empty": ("blobs", "{out}/empty"),
    "blobs, dangling": ("blobs", "{out}/nothing"),
    "blobs, loop": ("blobs", "blobs"),
    "blob": (f"blobs/{blob(b'weights')}", f"{{out}}/blobs/{blob(b'weights')}"),
    "blob, of another name": ("blobs/sha256-alias", f"{{out}}/blobs/{blob(b'theirs')}"),
    "blob, dangling": (f"blobs/{blob(b'weights')}", "{out}/nothing"),
    "blob, to a directory": (f"blobs/{blob(b'weights')}", "{out}/blobs"),
    "trash": ("trash", "{out}/trash"),
    "trash, empty": ("trash", "{out}/empty"),
    "trash, dangling": ("trash", "{out}/nothing"),
    "trash, to the blobs": ("trash", "blobs"),
    "trash, to the manifests": ("trash", "manifests"),
    "entry": (f"trash/{ENTRY}", f"{{out}}/trash/{ENTRY}"),
    "entry, to a store": (f"trash/{ENTRY}", "{out}"),
    "entry, to the root": (f"trash/{ENTRY}", ".."),
    "entry, to a blob": (f"trash/{ENTRY}", f"{{out}}/blobs/{blob(b'theirs')}"),
    "entry, dangling": (f"trash/{ENTRY}", "{out}/nothing"),
    "entry, to blobs": (f"trash/{ENTRY}", "{out}/blobs"),
    "entry, to our blobs": (f"trash/{ENTRY}", "../blobs"),
    "entry's manifests": (f"trash/{ENTRY}/manifests", "{out}/manifests"),
    "entry's host": (f"trash/{ENTRY}/manifests/{HOST}", f"{{out}}/manifests/{HOST}"),
    "entry's blobs": (f"trash/{ENTRY}/blobs", "{out}/blobs"),
    "entry's blobs, ours": (f"trash/{ENTRY}/blobs", "../../blobs"),
    "condemned": ("condemned", "{out}/condemned"),
    "condemned, empty": ("condemned", "{out}/empty"),
    "condemned, dangling": ("condemned", "{out}/nothing"),
    "condemned, to the blobs": ("condemned", "blobs"),
    "run": (f"condemned/{RUN}", "{out}/blobs"),
    "run, to the blobs": (f"condemned/{RUN}", "../blobs"),
    "run, dangling": (f"condemned/{RUN}", "{out}/nothing"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", [*LINKS])
def test_no_link_leads_out(tmp_path: Path, tree: Tree, outside: Tree, what: str) -> None:
    """Wherever a symbolic link leads, nothing outside is made, changed or removed."""
    path, target = LINKS[what]
    if path.startswith(f"trash/{ENTRY}/"):
        place = tree.trash / ENTRY / "manifests" / KEY
        place.parent.mkdir(parents=True)
        place.write_bytes(manifest(*LAYERS))
        (tree.trash / ENTRY / "blobs").mkdir()
    link(tree.root, path, target.format(out=outside.root))
    before = snapshot(tmp_path, without=tree.root)
    kept = tree.path("keep").read_bytes() if path != "manifests" else b""
    everything(DiskStore(tree.root))
    assert snapshot(tmp_path, without=tree.root) == before
    if path != "manifests":
        assert tree.path("keep").read_bytes() == kept
    if path not in ("manifests", "blobs"):
        assert (tree.blobs / blob(b"kept")).read_bytes() == b"kept"
        assert (tree.blobs / blob(b"template")).read_bytes() == b"template"
    with suppress(RegistryError):
        ModelCache(DiskStore(tree.root)).prune(age=0, all=True)
    assert snapshot(tmp_path, without=tree.root) == before


@pytest.mark.parametrize("path", [MODEL, f"manifests/{HOST}", "manifests"])
def test_no_model_is_restored_behind_a_link(
    tmp_path: Path, tree: Tree, outside: Tree, path: str
) -> None:
    """Where a link leads out since the delete, the error names it, and the model stays deleted."""
    store = DiskStore(tree.root)
    entry = discard(store)
    (outside.manifests / HOST / "library" / "smol" / "latest").unlink()
    link(tree.root, path, str(outside.root / path))
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="symbolic link that leads out") as caught:
        store.recover(entry)
    assert str(tree.root / path) in str(caught.value)
    assert snapshot(tmp_path) == before
    assert store.deleted() == [entry]


@pytest.mark.parametrize("step", ["recover_blob", "pardon", "condemn", "remove_blob"])
def test_no_blob_is_changed_behind_a_link(
    tmp_path: Path, tree: Tree, outside: Tree, step: str
) -> None:
    """Where ``blobs/`` leads out by now, nothing is put there or taken from there."""
    store = DiskStore(tree.root)
    entry = discard(store)
    [aside] = condemn(store, blob(b"kept"))
    link(tree.root, "blobs", str(outside.blobs))
    (outside.blobs / blob(b"weights")).write_bytes(b"theirs, of another content")
    steps: dict[str, Callable[[], object]] = {
        "recover_blob": lambda: store.recover_blob(entry, blob(b"weights")),
        "pardon": lambda: store.pardon(aside),
        "condemn": lambda: condemn(store, blob(b"theirs")),
        "remove_blob": lambda: store.remove_blob(blob(b"theirs")),
    }
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="symbolic link that leads out"):
        steps[step]()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("below", ["", f"/{HOST}", f"/{HOST}/library"])
def test_an_entry_whose_manifests_lie_behind_a_link_has_none(
    tmp_path: Path, tree: Tree, outside: Tree, below: str
) -> None:
    """Nothing is deleted there, and the entry is tidied away with the link and no more."""
    link(tree.root, f"trash/{ENTRY}/manifests{below}", f"{outside.manifests}{below}")
    before = snapshot(tmp_path, without=tree.root)
    store = DiskStore(tree.root)
    assert store.deleted() == []
    store.tidy(math.inf)
    assert list(tree.trash.iterdir()) == []
    assert snapshot(tmp_path, without=tree.root) == before


@pytest.mark.parametrize("path", ["manifests/evil", "manifests"])
def test_models_behind_a_link_are_listed_and_not_deleted(
    tree: Tree, outside: Tree, path: str
) -> None:
    """What a link puts elsewhere is read, and an attempt to delete it names the link."""
    host = "evil" if path.endswith("evil") else HOST
    link(tree.root, path, str(outside.manifests / (HOST if host == "evil" else "")))
    cache = ModelCache(DiskStore(tree.root))
    name = f"{host}/library/theirs:latest"
    assert name in [str(model) for model in cache.models()]
    with pytest.raises(StoreError, match="symbolic link that leads out") as caught:
        cache.unlink(name)
    assert str(tree.root / path) in str(caught.value)
    assert outside.path("theirs").exists()


def test_blobs_needed_behind_a_link_are_kept(tree: Tree, outside: Tree) -> None:
    """A model that is listed through a link keeps its blobs in this store."""
    tree.add_blob(b"theirs")
    tree.add_blob(b"nobody's")
    link(tree.root, "manifests/evil", str(outside.manifests / HOST))
    ModelCache(DiskStore(tree.root)).prune(age=0)
    assert (tree.blobs / blob(b"theirs")).exists()
    assert not (tree.blobs / blob(b"nobody's")).exists()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("manifests/evil", HOST),
        (f"manifests/{HOST}/evil", "library"),
        (f"manifests/{HOST}/library/evil", "smol"),
    ],
)
def test_links_within_the_store_are_followed(
    tree: Tree, store: DiskStore, path: str, target: str
) -> None:
    """A model that is reached by a link inside of the root is deleted where it is."""
    link(tree.root, path, target)
    key = f"{path.removeprefix('manifests/')}/library/smol/latest".split("/")
    key = [*path.split("/")[1:], *KEY.split("/")[len(path.split("/")) - 1 :]]
    assert store.discard("/".join(key), (), WHEN)
    assert not tree.path("smol").exists()
    assert (tree.root / path).is_symlink()


@pytest.mark.parametrize("what", ["dangling", "loop", "file", "long"])
def test_a_manifest_that_is_a_link_is_deleted_as_a_link(
    tmp_path: Path, tree: Tree, store: DiskStore, what: str
) -> None:
    """The link goes to the trash and comes back; what it leads to is not touched."""
    target = tmp_path / "target"
    if what == "file":
        target.write_bytes(manifest(*LAYERS))
    leads = {"loop": str(tree.path("smol")), "long": "/" + "x" * 300}.get(what, str(target))
    tree.path("smol").unlink()
    tree.path("smol").symlink_to(leads)
    assert store.find(Name.from_key(KEY)) == KEY
    assert keys(store) == [KEY]
    entry = discard(store)
    assert not tree.path("smol").is_symlink()
    assert store.find(Name.from_key(KEY)) is None
    assert store.recover(entry) is True
    assert os.readlink(tree.path("smol")) == leads
    assert target.exists() == (what == "file")


def test_a_manifest_that_is_a_relative_link_can_be_restored(tree: Tree, store: DiskStore) -> None:
    """A model whose manifest is a link to that of another comes back as any other."""
    tree.path("copy").parent.mkdir()
    tree.path("copy").symlink_to("../smol/latest")
    cache = ModelCache(store)
    assert len(cache.models()) == 2
    assert cache.unlink("copy")
    [deleted] = cache.deleted()
    assert deleted.restorable
    assert cache.restore("copy") == deleted.name
    assert tree.path("copy").read_bytes() == manifest(*LAYERS)


@pytest.mark.parametrize("level", ["host", "namespace", "model"])
def test_a_directory_that_is_a_link_to_itself_has_no_models(
    tree: Tree, store: DiskStore, level: str
) -> None:
    """No model is found behind it, in whatever case, as none is listed."""
    parts = ["host", "namespace", "model", "tag"]
    depth = parts.index(level) + 1
    link(tree.manifests, "/".join(parts[:depth]), level)
    assert store.find(Name(*parts)) is None
    assert store.find(Name("HOST", *parts[1:])) is None
    found = dict(store.read_all())
    assert found.keys() == {KEY, "/".join(parts[:depth])}
    assert isinstance(found["/".join(parts[:depth])], OutOfReachError)
    with pytest.raises(OutOfReachError):
        keys(store)


def test_a_directory_is_no_manifest(tree: Tree, store: DiskStore) -> None:
    """A directory where a manifest would be, or a link to one, is not found, listed or read."""
    tree.path("smol").unlink()
    tree.path("smol").mkdir()
    link(tree.root, f"{MODEL}/linked", str(tree.blobs))
    for tag in ("latest", "linked"):
        key = f"{HOST}/library/smol/{tag}"
        assert store.find(Name.from_key(key)) is None
        assert store.read(key) is None
    assert keys(store) == []
    assert ModelCache(store).unlink("smol") is False


def pipe(path: Path) -> None:
    """Make a named pipe that nobody writes to."""
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    """Make the file of a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:  # by a short way, as an address has at most 108 bytes
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


SPECIAL = [
    pytest.param(pipe, id="pipe"),
    pytest.param(
        socket_file,
        id="socket",
        marks=pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc"),
    ),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", SPECIAL)
def test_a_pipe_or_socket_for_a_manifest_is_not_waited_for(
    tree: Tree, store: DiskStore, make: Callable[[Path], None]
) -> None:
    """It has no content, and can be deleted, and a prune does not stop at it."""
    tree.path("smol").unlink()
    make(tree.path("smol"))
    cache = ModelCache(store)
    assert store.read(KEY) is None
    assert cache.models() == []
    assert cache.unlink("smol") is True
    assert cache.deleted() == []
    with pytest.raises(RegistryError):
        cache.restore("smol")
    cache.prune(age=0)
    assert store.deleted() == []
    assert list(tree.blobs.iterdir()) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", SPECIAL)
def test_a_pipe_or_socket_for_a_blob_is_not_waited_for(
    tree: Tree, store: DiskStore, make: Callable[[Path], None]
) -> None:
    """It is no blob, whether in its place or in the trash."""
    name = blob(b"weights")
    (tree.blobs / name).unlink()
    make(tree.blobs / name)
    assert store.blob(name) is None
    assert store.open_blob(name) is None
    assert name in list(store.blobs())
    cache = ModelCache(store)
    assert cache.unlink("smol")
    [deleted] = cache.deleted()
    assert deleted.missing == (digest(b"weights"),)
    with pytest.raises(ModelIncompleteError, match=digest(b"weights")):
        cache.restore("smol")
    cache.prune(age=0)
    assert cache.deleted() == []


def test_a_directory_is_not_deleted_as_a_manifest(tree: Tree, store: DiskStore) -> None:
    """Where a directory has taken the place of the manifest, the manifest is gone."""
    tree.path("smol").unlink()
    tree.path("smol").mkdir()
    (tree.path("smol") / "mine").write_bytes(b"mine")
    assert store.discard(KEY, (), WHEN) is None
    store.tidy(math.inf)
    assert (tree.path("smol") / "mine").read_bytes() == b"mine"


def test_a_directory_among_the_blobs_is_left_alone(tree: Tree, store: DiskStore) -> None:
    """It is not listed, is no blob, and a prune does not remove it."""
    (tree.blobs / "sha256-aa").mkdir()
    (tree.blobs / "sha256-aa" / "mine").write_bytes(b"mine")
    assert "sha256-aa" not in list(store.blobs())
    assert store.blob("sha256-aa") is None
    assert store.open_blob("sha256-aa") is None
    ModelCache(store).prune(age=0, all=True)
    assert (tree.blobs / "sha256-aa" / "mine").read_bytes() == b"mine"


HOSTILE = [
    "",
    ".",
    "..",
    "../smol",
    "../../outside",
    "/etc/passwd",
    "a/b",
    "a/../b",
    "sha256-../../../outside/blobs",
    "a\0b",
    "\0",
    "a/",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_no_name_leads_out(tmp_path: Path, tree: Tree, outside: Tree, part: str) -> None:
    """What cannot be the name of one file is refused by every method, and nothing is changed."""
    store = DiskStore(tree.root)
    entry = discard(store)
    [aside] = condemn(store, blob(b"kept"))
    before = snapshot(tmp_path)
    keys = [f"{part}/library/smol/latest", f"{HOST}/library/smol/{part}", part]
    steps: list[Callable[[], object]] = [
        lambda: store.blob(part),
        lambda: store.open_blob(part),
        lambda: store.remove_blob(part),
        lambda: condemn(store, part),
        lambda: store.blob_in_trash(entry, part),
        lambda: store.recover_blob(entry, part),
        lambda: store.discard(f"{HOST}/library/keep/latest", [part], WHEN),
    ]
    for key in keys:
        steps += [
            partial(store.read, key),
            partial(store.discard, key, (), WHEN),
        ]
    deleted = [
        Deleted(WHEN, part, KEY),
        *(Deleted(WHEN, entry.id, key) for key in keys),
    ]
    for one in deleted:
        steps += [
            partial(store.read_deleted, one),
            partial(store.recover, one),
            partial(store.forget, one),
        ]
    steps += [
        lambda: store.blob_in_trash(deleted[0], blob(b"weights")),
        lambda: store.recover_blob(deleted[0], blob(b"weights")),
    ]
    for condemned in (Condemned(WHEN, part, aside.name), Condemned(WHEN, aside.id, part)):
        steps += [
            partial(store.condemned_blob, condemned),
            partial(store.pardon, condemned),
            partial(purge, store, condemned),
        ]
    for step in steps:
        with pytest.raises(StoreError):
            step()
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        "sha256:../../../outside/blobs/x",
        "sha256-" + "/" * 64,
        "/etc/passwd",
        "../" * 20 + "etc/passwd",
        "sha256:" + "0" * 63 + "/",
        "sha256:" + "a" * 63 + "\0",
    ],
)
@pytest.mark.parametrize("place", ["layers", "config"])
def test_no_digest_leads_out(
    tmp_path: Path, tree: Tree, outside: Tree, text: str, place: str
) -> None:
    """A manifest with a digest that would be a path can be deleted, and touches nothing else."""
    document = json.loads(manifest(*LAYERS))
    layer = {"digest": text, "size": 1}
    document[place] = layer if place == "config" else [layer, *document["layers"]]
    tree.write("smol", json.dumps(document).encode())
    store = DiskStore(tree.root)
    cache = ModelCache(store)
    before = snapshot(tmp_path, without=tree.root)
    assert [str(model) for model in cache.models()] == [f"{HOST}/library/keep:latest"]
    with pytest.raises(InvalidManifestError, match="smol"):
        cache.prune(age=0)
    assert cache.unlink("smol") is True
    [deleted] = cache.deleted()
    assert not deleted.restorable
    everything(store)
    assert snapshot(tmp_path, without=tree.root) == before
    assert broken(tree.root) == []


# Unusual content


@pytest.mark.parametrize(
    "name",
    [
        b".DS_Store",
        b"latest~",
        b".latest.swp",
        b"sm\xc3\xb6l",
        "\u212aey".encode(),
        b"\xff\xfe",
        b"line\nend",
        b"with space",
        b"-rf",
        b"x" * 255,
        "é".encode() * 127,
        b"a:b",
        b"\x1b[31m",
    ],
)
def test_junk_at_every_level_is_harmless(tree: Tree, store: DiskStore, name: bytes) -> None:
    """Files of other programs are skipped, wherever they lie, and models go and come as ever."""
    entry = discard(store)
    tree.add("smol", *LAYERS)
    [aside] = condemn(store, blob(b"weights"))
    store.pardon(aside)
    places = [tree.root, tree.manifests, *tree.path("smol").parents[:3]]
    places += [tree.blobs, tree.trash, tree.root / "condemned"]
    places += [path for path in (tree.trash / entry.id).rglob("*") if path.is_dir()]
    try:
        for place in places:
            place.mkdir(exist_ok=True)
            Path(os.fsdecode(bytes(place) + b"/" + name)).write_bytes(b"junk")
    except OSError:
        pytest.skip("this file system has no such names")
    cache = ModelCache(store)
    assert [str(model) for model in cache.models()] == [f"{HOST}/library/smol:latest"]
    assert len(cache.deleted()) == 1
    assert cache.unlink("SMOL") is True
    assert len(cache.deleted()) == 2
    assert cache.restore("smol") == f"{HOST}/library/smol:latest"
    assert broken_but(tree, name) == []
    cache.prune(age="1d")
    cache.prune(age=0)
    assert cache.deleted() == []
    assert broken_but(tree, name) == []
    assert cache.unlink("smol") is True
    assert cache.unlink("smol") is False


def broken_but(tree: Tree, junk: bytes) -> list[str]:
    """What `broken` gives, leaving out the *junk*."""
    for path in tree.manifests.glob("*/*/*/*"):
        if os.fsencode(path.name) == junk:
            path.unlink()
    return broken(tree.root)


def test_only_letters_of_ascii_have_another_case(tree: Tree, store: DiskStore) -> None:
    """A file that only Unicode takes for the same name in another case is not the model."""
    tree.write(f"{HOST}/library/\u212aey/latest", b"{}")  # the sign for kelvin
    assert store.find(Name.parse("key")) is None
    assert store.find(Name.parse("KEY")) is None


def test_names_too_long_for_the_file_system_are_not_found(tree: Tree, store: DiskStore) -> None:
    """A legal name that no file can have is one that is not there."""
    long = "h" * 300
    name = Name(long, "library", "smol", "latest")
    assert store.find(name) is None
    assert store.find(Name(long.upper(), "n", "m", "t")) is None
    assert store.read(name.key) is None
    assert version(store, name.key) is None
    assert store.blob(long) is None
    assert store.open_blob(long) is None
    assert ModelCache(store).unlink(str(name)) is False


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_nothing_is_found_below_a_file(tree: Tree, store: DiskStore, level: int) -> None:
    """A file where a directory would be has no models below it, in whatever case."""
    parts = ["host", "namespace", "model", "tag"]
    place = tree.root.joinpath("manifests", *parts[: level - 1])
    if level == 1:
        shutil.rmtree(tree.manifests)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"junk")
    for name in (Name(*parts), Name("HOST", *parts[1:])):
        assert store.find(name) is None
        assert store.read(name.key) is None
        assert version(store, name.key) is None
        assert store.discard(name.key, (), WHEN) is None
    assert keys(store) == ([] if level == 1 else [KEY])
    assert store.deleted() == []


def test_blobs_may_be_a_file(tree: Tree, store: DiskStore) -> None:
    """A file where ``blobs/`` would be has no blobs."""
    shutil.rmtree(tree.blobs)
    tree.blobs.write_bytes(b"junk")
    assert list(store.blobs()) == []
    assert store.blob(blob(b"weights")) is None
    assert store.open_blob(blob(b"weights")) is None


def test_paths_too_long_for_the_system_are_not_found(tmp_path: Path) -> None:
    """The same where each part is short enough and the whole is not."""
    root = tmp_path
    while len(str(root)) < 4096 - 250:
        root /= "d" * min(200, 4096 - 245 - len(str(root)))
    root.mkdir(parents=True)
    store = DiskStore(root)
    name = Name(*["n" * 80] * 4)
    assert len(f"{root}/manifests/{name.key}") > 4096
    assert store.find(name) is None
    assert ModelCache(store).unlink(str(name)) is False


def test_a_manifest_over_16_mib_is_not_read(tree: Tree, store: DiskStore) -> None:
    """It is an error that names the file, and it can be deleted and is then listed as such."""
    tree.path("smol").write_bytes(manifest(*LAYERS) + b" " * (16 << 20))
    cache = ModelCache(store)
    with pytest.raises(InvalidManifestError, match=str(tree.path("smol"))):
        store.read(KEY)
    assert cache.models() == []
    with pytest.raises(InvalidManifestError, match="smol"):
        cache.prune(age=0)
    assert cache.unlink("smol") is True
    [deleted] = cache.deleted()
    assert not deleted.restorable
    with pytest.raises(InvalidManifestError, match="16777"):
        cache.restore("smol")


def test_a_manifest_over_16_mib_in_the_trash_does_not_stop_a_prune(
    tree: Tree, store: DiskStore
) -> None:
    """Once deleted it is no model any more, and goes when it has expired."""
    tree.path("smol").write_bytes(manifest(*LAYERS) + b" " * (16 << 20))
    now = time.time()
    cache = ModelCache(store, clock=lambda: now)
    assert cache.unlink("smol") is True
    cache.prune()
    assert len(cache.deleted()) == 1
    cache.prune(age=0)
    assert cache.deleted() == []


def test_a_manifest_of_16_mib_is_read(tree: Tree, store: DiskStore) -> None:
    """What is just not too large is a model like any other."""
    data = manifest(*LAYERS)
    tree.path("smol").write_bytes(data + b" " * ((16 << 20) - len(data)))
    assert len(ModelCache(store).models()) == 1


def test_a_manifest_that_grows_while_it_is_read_is_not_half_read(
    tree: Tree, store: DiskStore
) -> None:
    """What is read is either the whole of the new content or no manifest."""

    def grow(*arguments: Any) -> None:
        with tree.path("smol").open("ab") as file:
            file.write(b"x" * 100)

    with watched(Once("read", grow), READING):
        found = store.read(KEY)
    assert found is not None
    assert len(found.data) > len(manifest(*LAYERS))


def test_blobs_named_in_capitals_are_found(tree: Tree) -> None:
    """A file that has the digest in capitals, as the manifest had, is that blob in every step."""
    data = manifest(*LAYERS)
    for layer in LAYERS:
        tree.add_blob(layer).rename(tree.blobs / blob(layer).upper().replace("SHA", "sha"))
        data = data.replace(digest(layer)[7:].encode(), digest(layer)[7:].upper().encode())
    tree.add_blob(b"{}")
    tree.write("smol", data)
    store = DiskStore(tree.root)
    cache = ModelCache(store)
    look = store.blob(blob(b"weights"))
    assert look is not None
    assert look.size == 7
    file = store.open_blob(blob(b"weights"))
    assert file is not None
    with file:
        assert file.read() == b"weights"
    before = tree.files()
    assert cache.unlink("smol")
    [entry] = store.deleted()
    assert store.blob_in_trash(entry, blob(b"weights"))
    for path in list(tree.blobs.iterdir()):
        path.unlink()
    assert cache.deleted()[0].restorable
    cache.restore("smol")
    assert tree.files() == before
    cache.prune(age=0)
    assert tree.files() == before


# Times and versions


def test_an_old_manifest_keeps_its_version(tree: Tree, store: DiskStore) -> None:
    """A manifest that was not written just now has one version, for `read` and `version`."""
    os.utime(tree.path("smol"), (WHEN, WHEN))
    time.sleep(A_TICK)
    found = store.read(KEY)
    assert found is not None
    assert found.version is not None
    assert found.version == version(store, KEY) == version(DiskStore(tree.root), KEY)


def test_a_manifest_written_just_now_has_no_version_that_lasts(
    tree: Tree, store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again within the tick of the file system's clock, so it is read again."""
    tick_for(monkeypatch, seconds=60)  # however busy this machine is
    tree.path("smol").write_bytes(b"{}")
    assert version(store, KEY) is None
    os.utime(tree.path("smol"), (WHEN, WHEN))
    assert version(store, KEY) is None


@pytest.mark.parametrize("what", ["size", "time", "file"])
def test_a_changed_manifest_has_another_version(tree: Tree, store: DiskStore, what: str) -> None:
    """Another size, another time or another file is another version."""
    path = tree.path("smol")
    os.utime(path, (WHEN, WHEN))
    time.sleep(A_TICK)
    before = version(store, KEY)
    assert before is not None
    if what == "size":
        path.write_bytes(path.read_bytes() + b" ")
    elif what == "file":
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").rename(path)
    os.utime(path, (WHEN, WHEN + (what == "time")))
    time.sleep(A_TICK)
    assert version(store, KEY) not in (None, before)


def test_an_old_time_does_not_make_a_copied_file_old(tree: Tree, store: DiskStore) -> None:
    """What was just copied here with its old times counts from now."""
    for path in (tree.path("smol"), tree.blobs / blob(b"weights")):
        os.utime(path, (1, 1))
    found, look = store.read(KEY), store.blob(blob(b"weights"))
    assert found is not None
    assert look is not None
    assert found.modified > WHEN
    assert look.changed > WHEN
    assert look.written == 1


def test_a_pardoned_blob_is_as_if_just_written(tree: Tree, store: DiskStore) -> None:
    """A blob that is put back is young, by the time of its writing too."""
    name = blob(b"weights")
    os.utime(tree.blobs / name, (1, 1))
    [aside] = condemn(store, name)
    look = store.condemned_blob(aside)
    assert look is not None
    assert look.written == 1
    store.pardon(aside)
    look = store.blob(name)
    assert look is not None
    assert look.written > WHEN


def test_a_blob_that_is_a_link_counts_as_its_target(
    tmp_path: Path, tree: Tree, store: DiskStore
) -> None:
    """It has the size of the target, and takes no space that would be free without it."""
    target = tmp_path / "elsewhere"
    target.write_bytes(b"weights")
    path = tree.blobs / blob(b"weights")
    path.unlink()
    path.symlink_to(target)
    look = store.blob(path.name)
    assert look is not None
    assert (look.size, look.links) == (7, 2)
    cache = ModelCache(store)
    assert cache.unlink("smol")
    path.unlink()
    assert cache.restore("smol")
    assert os.readlink(path) == str(target)
    cache.unlink("smol")
    cache.prune(age=0)
    assert not path.is_symlink()
    assert target.read_bytes() == b"weights"


# The root


def test_a_relative_root_stays_where_it_was(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that was given relative does not move with the working directory."""
    tree.add("smol", *LAYERS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = DiskStore("models")
    monkeypatch.chdir("elsewhere")
    assert store.root == str(tree.root)
    cache = ModelCache(store)
    assert cache.unlink("smol")
    assert cache.restore("smol")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["with space", " lead", "smöl", "-rf", "a:b", "line\nend", "~", "$HOME", "%s", "[a]*", "b\\c"],
)
def test_a_root_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Delete, restore and prune work whatever the directory is called."""
    tree = Tree(tmp_path / name)
    _go_round(tree, DiskStore(tree.root))


def test_a_root_may_be_given_in_many_ways(tree: Tree) -> None:
    """A path, a text, one with a slash at its end or a detour in it are all the same."""
    for root in (tree.root, str(tree.root), f"{tree.root}/", f"{tree.root}/blobs/../."):
        assert DiskStore(root).root == str(tree.root)
        _go_round(tree, DiskStore(root))


def test_a_root_may_be_a_link(tmp_path: Path, tree: Tree) -> None:
    """A root that is a symbolic link itself, or lies below one, is a store like any other."""
    (tmp_path / "link").symlink_to(tree.root)
    assert DiskStore(tmp_path / "link").root == str(tmp_path / "link")
    _go_round(tree, DiskStore(tmp_path / "link"))
    (tmp_path / "above").symlink_to(tmp_path)
    _go_round(tree, DiskStore(tmp_path / "above" / "models"))


def _go_round(tree: Tree, store: DiskStore) -> None:
    tree.add("smol", *LAYERS)
    before = tree.files()
    cache = ModelCache(store)
    assert cache.unlink("smol")
    assert [str(model) for model in cache.deleted()] == [cache.restore("smol")]
    assert tree.files() == before
    assert cache.unlink("smol")
    sweep(tree)
    cache.restore("smol")
    assert tree.files() == before
    tree.add_blob(b"nobody's")
    cache.prune(age=0)
    assert tree.files() == before


# What is not understood


@pytest.mark.parametrize("what", ["newer", "gone"])
def test_no_blob_is_told_of_where_not_all_manifests_are_known(
    tree: Tree, store: DiskStore, what: str
) -> None:
    """Without ``manifests/``, or with those of a newer layout, no blob is listed or moved."""
    (tree.root / "manifests-v2").mkdir()
    assert len(list(store.blobs())) == len(BLOBS)
    if what == "newer":
        (tree.root / "manifests-v2" / "something").write_bytes(b"")
    else:
        shutil.rmtree(tree.manifests)
    before = contents(tree.root)
    for step in (lambda: list(store.blobs()), lambda: condemn(store, *BLOBS)):
        with pytest.raises(StoreError, match="manifests"):
            step()
    with pytest.raises(StoreError, match="manifests"):
        ModelCache(store).prune(age=0)
    assert contents(tree.root) == before


def test_a_file_in_the_trash_does_not_stop_a_prune(tree: Tree, store: DiskStore) -> None:
    """A file whose name is that of an entry is no entry, and is no error."""
    tree.trash.mkdir()
    (tree.trash / ENTRY).write_bytes(b"junk")
    assert store.deleted() == []
    ModelCache(store).prune()


@pytest.mark.parametrize("where", ["at", "above"])
def test_a_restore_names_what_is_in_its_way(tree: Tree, store: DiskStore, where: str) -> None:
    """Where something that is no model takes the place, the error names its path."""
    entry = discard(store)
    if where == "at":
        tree.path("smol").mkdir(parents=True)
    else:
        tree.path("smol").parents[1].mkdir(parents=True)
        tree.path("smol").parent.write_bytes(b"junk")
    before = contents(tree.root)
    with pytest.raises(StoreError, match=str(tree.path("smol").parent)):
        store.recover(entry)
    assert contents(tree.root) == before


def test_unfinished_deletes_are_tidied_when_they_are_old(tree: Tree, store: DiskStore) -> None:
    """What a killed delete has left in the trash goes once it is old, and not before."""
    tree.trash.mkdir()
    old, full = tree.trash / f"{ID}00000000", tree.trash / f"{ID}22222222"
    (old / "manifests" / HOST / "library").mkdir(parents=True)
    (old / "blobs").mkdir()
    os.link(tree.blobs / blob(b"weights"), old / "blobs" / blob(b"weights"))
    for path in (full, tree.trash / "mine", tree.trash / f"{ID}0000000"):
        path.mkdir()
    (full / "manifests" / HOST / "library" / "smol").mkdir(parents=True)
    (full / "manifests" / KEY).write_bytes(manifest(*LAYERS))
    assert store.abandoned(WHEN - 1) == {}
    store.tidy(WHEN - 1)
    assert old.exists()
    assert store.abandoned(WHEN) == {f"trash/{old.name}": [store.blob(blob(b"weights"))]}
    assert store.tidy(WHEN) == {}
    assert {path.name for path in tree.trash.iterdir()} == {full.name, "mine", f"{ID}0000000"}
    assert (tree.blobs / blob(b"weights")).stat().st_nlink == 1
    assert [entry.id for entry in store.deleted()] == [full.name]


# Claims


def test_a_claim_ends_with_the_process(tree: Tree, store: DiskStore) -> None:
    """However that ends; and it leaves no trace."""
    code = (
        "import sys, time; from registry_wsgi import DiskStore\n"
        "release = DiskStore(sys.argv[1]).claim(); print(bool(release), flush=True)\n"
        "time.sleep(60)"
    )
    before = contents(tree.root)
    package = str(Path(registry_wsgi.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tree.root)],
        env={**os.environ, "PYTHONPATH": package},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        assert store.claim() is None
        process.kill()
        process.wait()
    release = store.claim()
    assert release is not None
    release()
    assert contents(tree.root) == before


def test_where_nothing_can_be_locked_everyone_has_the_claim(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems: a prune is safe beside another."""

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    releases = [store.claim(), store.claim()]
    for release in releases:
        assert release is not None
        release()


def test_a_claim_of_a_store_that_is_gone_is_an_error(tree: Tree, store: DiskStore) -> None:
    """And not a claim that another has."""
    tree.root.rename(tree.root.with_name("elsewhere"))
    with pytest.raises(StoreError, match="No such file"):
        store.claim()
