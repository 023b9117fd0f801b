"""`ModelCache.forget`: a deleted model goes for good, and nothing else does."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kit.clocks import HOUR, Clock
from kit.kinds import KINDS, BucketKind, Kind, kinds
from kit.trees import Tree, blob, broken
from kit.views import content, state
from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.errors import InvalidNameError, ModelNotFoundError

HOST = "registry.ollama.ai"
NAME = f"{HOST}/library/smol:latest"


def key(name: str) -> str:
    return f"{HOST}/library/{name}/latest"


@pytest.fixture
def clock() -> Clock:
    """Far ahead, so that what the test makes is old."""
    return Clock.far_ahead()


@pytest.fixture(params=kinds())
def kind(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Kind:
    """An empty store of each kind."""
    return KINDS[request.param](tmp_path, clock)


@pytest.fixture
def cache(kind: Kind, clock: Clock) -> ModelCache:
    """Three models that share a blob, two of them deleted a day ago, and a blob of nobody's."""
    with clock.ago(48 * HOUR):
        for name in ("smol", "other", "kept"):
            kind.put(key(name), name.encode(), b"shared")
        kind.put_blob(blob(b"nobody's"), b"nobody's")
    cache = ModelCache(kind.store, clock=clock)
    with clock.ago(24 * HOUR):
        assert cache.unlink("smol")
        assert cache.unlink("other")
    return cache


def test_it_goes_for_good_and_nothing_else_does(cache: ModelCache, kind: Kind) -> None:
    """What only that model needed is gone; another deleted model can still be restored."""
    report = cache.forget("smol")
    assert report.models == 1
    assert [model.name for model in cache.deleted()] == [f"{HOST}/library/other:latest"]
    if isinstance(kind, BucketKind):  # nobody can tell whether it is in use: a later run removes it
        assert report.held_blobs == 1
    else:
        assert (report.blobs, report.bytes) == (1, len(b"smol"))
        assert content(kind.store, blob(b"smol")) is None
    with pytest.raises(ModelNotFoundError, match="no deleted model"):
        cache.restore("smol")
    for data in (b"shared", b"nobody's", b"other", b"kept"):
        assert content(kind.store, blob(data)) == data
    assert cache.restore("other") == f"{HOST}/library/other:latest"
    assert cache.verify().ok


def test_a_dry_run_says_the_same_and_touches_nothing(cache: ModelCache, kind: Kind) -> None:
    """But that it was one."""
    before = state(kind.store)
    dry = cache.forget("smol", dry_run=True)
    assert state(kind.store) == before
    report = cache.forget("smol")
    assert (dry.models, dry.blobs, dry.bytes) == (report.models, report.blobs, report.bytes)
    assert (dry.held_blobs, dry.held_bytes) == (report.held_blobs, report.held_bytes)
    assert dry.dry_run
    assert not report.dry_run


@pytest.mark.parametrize("names", [("absent",), ("smol", "absent")])
def test_what_was_not_deleted_is_not_forgotten(
    cache: ModelCache, kind: Kind, names: tuple[str, ...]
) -> None:
    """Nor is anything beside it; a model that is listed is not meant."""
    before = state(kind.store)
    with pytest.raises(ModelNotFoundError, match="absent"):
        cache.forget(*names)
    with pytest.raises(ModelNotFoundError, match="kept"):
        cache.forget("kept")
    with pytest.raises(InvalidNameError):
        cache.forget("")
    assert cache.forget().models == 0
    assert state(kind.store) == before


def test_of_several_deletes_one_can_be_chosen(cache: ModelCache, kind: Kind, clock: Clock) -> None:
    """By its time or its id, or all since a time; without them all go."""
    for hours in (3, 2, 1):
        with clock.ago(hours * HOUR):
            kind.put(key("smol"), b"version %d" % hours)
            assert cache.unlink("smol")
    latest, middle, first, _ = (model for model in cache.deleted() if model.name == NAME)
    assert cache.forget("smol", at=middle.deleted).models == 1
    assert cache.forget("smol", at=first.id).models == 1
    with pytest.raises(ModelNotFoundError, match="was deleted at"):
        cache.forget("smol", at=first.id)
    since = datetime.fromtimestamp(clock() - HOUR, UTC)
    assert cache.forget("SMOL", since=since).models == 1
    assert [model.deleted for model in cache.deleted() if model.name == NAME] != [latest.deleted]
    kind.put(key("smol"), b"once more")
    assert cache.unlink("smol")
    assert cache.forget("smol").models == 2
    assert NAME not in [model.name for model in cache.deleted()]


def test_one_that_a_clock_ahead_has_dated_goes_too(kind: Kind, clock: Clock) -> None:
    """Its time says nothing about whether somebody is at work."""
    kind.put(key("kept"), b"kept")
    kind.put(key("smol"), b"weights")
    with clock.ago(-24 * HOUR):
        assert ModelCache(kind.store, clock=clock).unlink("smol")
    cache = ModelCache(kind.store, clock=clock)
    assert cache.forget("smol").models == 1
    if kind.store.sets_aside:
        assert content(kind.store, blob(b"weights")) is None


def test_a_manifest_that_cannot_be_read_goes_too(kind: Kind, clock: Clock) -> None:
    """That is the way out."""
    kind.put_manifest(key("smol"), b"\0")
    cache = ModelCache(kind.store, clock=clock)
    assert cache.unlink("smol")
    assert cache.forget("smol").models == 1
    assert cache.deleted() == []


# Beside others, on disk


@pytest.fixture
def deleted(tree: Tree) -> Tree:
    """A store on disk with one model of two, and the other one in the trash."""
    tree.add("kept", b"kept")
    tree.add("smol", b"weights")
    assert ModelCache(DiskStore(tree.root)).unlink("smol")
    return tree


def ahead(tree: Tree, hours: float = 2, **options: float) -> ModelCache:
    """A cache so many hours later."""
    return ModelCache(DiskStore(tree.root), clock=lambda: time.time() + hours * HOUR, **options)


def test_while_a_download_shows_it_stays_in_the_trash(deleted: Tree) -> None:
    """So that it can be named once more; the word that none is under way frees its space."""
    path = deleted.blobs / f"sha256-{'0' * 64}-partial"
    path.write_bytes(b"half")
    os.utime(path, (time.time() + 2 * HOUR, time.time() + 2 * HOUR))
    for dry_run in (True, False):
        report = ahead(deleted).forget("smol", dry_run=dry_run)
        assert (report.models, report.blobs, report.held_blobs) == (0, 0, 1)
    assert ahead(deleted).deleted()[0].restorable
    assert (deleted.blobs / blob(b"weights")).exists()
    assert ahead(deleted).forget("smol", quiet_store=True).blobs == 1
    assert broken(deleted.root) == []


def test_in_a_quiet_store_nothing_waits(deleted: Tree) -> None:
    path = deleted.blobs / f"sha256-{'0' * 64}-partial"
    path.write_bytes(b"half")
    report = ModelCache(DiskStore(deleted.root)).forget("smol", quiet_store=True)
    assert (report.models, report.blobs, report.held_blobs) == (1, 1, 0)
    assert path.exists()


def test_what_an_earlier_run_has_set_aside_stays_there(deleted: Tree) -> None:
    """But for the blobs of that model."""
    name = deleted.add_blob(b"another's").name
    store = DiskStore(deleted.root)
    list(store.condemn([name, blob(b"weights")], time.time()))
    report = ahead(deleted).forget("smol")
    assert (report.models, report.blobs) == (1, 1)
    assert [aside.name for aside in store.condemned()] == [name]


def test_a_pull_within_the_pause_keeps_its_blob(deleted: Tree) -> None:
    """It found the blob in its place, and its manifest comes once that is set aside."""

    def progress(what: str, *_: object) -> None:
        if what == "waiting for pulls to show":
            deleted.add("new", b"weights")

    cache = ahead(deleted)
    cache.pause = 1e-6
    report = cache.forget("smol", progress=progress)
    assert (report.models, report.blobs) == (1, 0)
    assert broken(deleted.root) == []
    assert (deleted.blobs / blob(b"weights")).exists()
