"""Deleting with a way back: `ModelCache` over each kind of store."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from werkzeug.test import Client

from kit.clocks import Clock
from kit.faults import Once, failing
from kit.kinds import KINDS, BucketKind, Kind, kinds
from kit.os_seam import CHANGING, Call, counted, watched
from kit.races import hammer, race
from kit.trees import Tree, blob, broken, digest, manifest
from kit.views import content, state
from registry_wsgi import DiskStore, LocalRegistry, MemoryStore, ModelCache, PruneReport
from registry_wsgi.cache.results import DeletedModel, Model, Usage
from registry_wsgi.durations import Duration
from registry_wsgi.errors import (
    InvalidDurationError,
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    RegistryError,
    StoreError,
)
from registry_wsgi.stores.base import Deleted, Read

HOST = "registry.ollama.ai"
KEY = f"{HOST}/library/smol/latest"
NAME = f"{HOST}/library/smol:latest"
OTHER = "example.com/ns/other/v1"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at the start of the test."""
    return Clock()


@pytest.fixture(params=kinds())
def kind(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Kind:
    """An empty store of each kind."""
    return KINDS[request.param](tmp_path, clock)


@pytest.fixture
def cache(kind: Kind, clock: Clock) -> ModelCache:
    """A cache over that store, with the default durations."""
    return ModelCache(kind.store, clock=clock)


def names(models: list[Model] | list[DeletedModel]) -> list[str]:
    """The names of models."""
    return [model.name for model in models]


def lacking(kind: Kind) -> list[str]:
    """Each listed model that lacks a blob, or has one of other content."""
    return [
        f"{model.name}: {name}"
        for model in ModelCache(kind.store).models()
        for name in _blobs(kind, model)
        if blob(content(kind.store, name) or b"\0") != name
    ]


def _blobs(kind: Kind, model: Model) -> list[str]:
    found = kind.store.read(model.name.replace(":", "/"))
    assert found is not None
    return [
        word[:71] for word in found.data.decode().replace("sha256:", "\nsha256-").split("\n")[1:]
    ]


# Delete and restore


def test_a_model_is_deleted_and_restored_as_it_was(kind: Kind, cache: ModelCache) -> None:
    """After both, the store has what it had, byte for byte, and the trash is empty."""
    kind.put(KEY, b"weights", b"template")
    kind.put(OTHER, b"other", b"template")
    before = state(kind.store)
    assert cache.unlink("smol") is True
    assert names(cache.models()) == ["example.com/ns/other:v1"]
    assert names(cache.deleted()) == [NAME]
    assert state(kind.store)["blobs"] == before["blobs"]
    assert cache.restore("smol") == NAME
    assert state(kind.store) == before
    assert cache.deleted() == []


def test_a_model_that_is_not_there_is_not_deleted(kind: Kind, cache: ModelCache) -> None:
    """The answer is False, and nothing is changed."""
    kind.put(KEY, b"weights")
    before = state(kind.store)
    for name in ("other", "smol:v1", "ns/smol", "example.com/library/smol"):
        assert cache.unlink(name) is False
    assert cache.unlink("smol") is True
    assert cache.unlink("smol") is False
    cache.restore("smol")
    assert state(kind.store) == before


@pytest.mark.parametrize(
    "name", ["smol", "smol:latest", "library/smol", NAME, "SMOL", "Library/smol:LATEST"]
)
def test_a_name_is_understood_however_it_is_written(
    kind: Kind, cache: ModelCache, name: str
) -> None:
    """Short, full and in another case, a name means the same model, deleted or restored."""
    kind.put(KEY, b"weights")
    assert cache.unlink(name) is True
    assert cache.restore(name) == NAME
    assert cache.unlink("smol") is True
    assert cache.restore(name.swapcase()) == NAME


class Untouched:
    """A store that must not be asked for anything."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def asked(*arguments: object) -> NoReturn:
            raise AssertionError(name)

        return asked


@pytest.mark.parametrize(
    "name", ["", " ", "/", ":", "a b", "../smol", "/a/b/c/d", "sm\0l", ".smol", "é", "a" * 81]
)
def test_an_invalid_name_does_not_reach_the_store(name: str) -> None:
    """Delete and restore refuse it at once, as a ValueError too."""
    store: Any = Untouched()
    cache = ModelCache(store)
    for step in (cache.unlink, cache.restore):
        with pytest.raises(InvalidNameError) as caught:
            step(name)
        assert isinstance(caught.value, ValueError)


def test_the_latest_of_several_deletes_comes_back(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """Each restore of a name brings back the latest that is still deleted."""
    versions = [kind.put(KEY, b"version %d" % number) for number in range(1)]
    for number in range(1, 4):
        cache.unlink("smol")
        clock.move(minutes=1)
        versions.append(kind.put(KEY, b"version %d" % number))
    cache.unlink("smol")
    assert len(cache.deleted()) == 4
    for data in reversed(versions):
        assert cache.restore("smol") == NAME
        assert state(kind.store)["manifests"] == {KEY: data}
        assert lacking(kind) == []
        assert kind.store.discard(KEY, (), 0.0)  # older than all others
    assert len(cache.deleted()) == 4


def test_the_latest_comes_back_whatever_its_case(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """Of names that differ in case alone, the one deleted last comes back as it was written."""
    kind.put(f"{HOST}/library/SMOL/latest", b"first")
    cache.unlink("SMOL")
    clock.move(seconds=1)
    kind.put(f"{HOST}/library/Smol/latest", b"second")
    cache.unlink("Smol")
    assert cache.restore("SMOL") == f"{HOST}/library/Smol:latest"
    assert names(cache.deleted()) == [f"{HOST}/library/SMOL:latest"]


def test_an_older_delete_can_be_chosen(kind: Kind, cache: ModelCache, clock: Clock) -> None:
    """By its moment, or by its id; the others stay in the trash."""
    for data in (b"first", b"second", b"third"):
        kind.put(KEY, data)
        cache.unlink("smol")
        clock.move(seconds=1)
    third, second, first = cache.deleted()
    with pytest.raises(ModelNotFoundError, match="was deleted at"):
        cache.restore("smol", at=second.deleted + timedelta(seconds=0.5))
    with pytest.raises(ModelNotFoundError):
        cache.restore("smol", at="no such id")
    assert cache.restore("smol", at=second.deleted) == NAME
    assert [model.size for model in cache.models()] == [second.size]
    assert cache.deleted() == [third, first]
    cache.unlink("smol")
    assert cache.restore("smol", at=first.id) == NAME
    assert [model.size for model in cache.models()] == [first.size]


def test_one_that_lacks_blobs_does_not_hide_an_older_one(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """The latest that is whole comes back; the other, if asked for, says what it lacks."""
    kind.put(KEY, b"whole")
    cache.unlink("smol")
    clock.move(seconds=1)
    kind.put(KEY, b"broken")
    assert kind.store.discard(KEY, (), clock())
    kind.sweep_blob(blob(b"broken"))
    with pytest.raises(ModelIncompleteError):
        cache.restore("smol", at=cache.deleted()[0].deleted)
    assert cache.restore("smol") == NAME
    assert [model.size for model in cache.models()] == [len(b"whole{}")]


@pytest.mark.parametrize("name", ["other", "smol:v1", "ns/smol", "smo", "smol2"])
def test_what_was_not_deleted_is_not_restored(kind: Kind, cache: ModelCache, name: str) -> None:
    """There is an error that has the full name, and nothing is changed."""
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    before = state(kind.store)
    with pytest.raises(ModelNotFoundError, match=name.rpartition("/")[2]) as caught:
        cache.restore(name)
    assert isinstance(caught.value, LookupError)
    assert state(kind.store) == before


@pytest.mark.parametrize(
    "place", [KEY, f"{HOST}/library/SMOL/latest", f"{HOST.upper()}/Library/smol/Latest"]
)
def test_a_restore_does_not_overwrite(kind: Kind, cache: ModelCache, place: str) -> None:
    """A model that has come since, in whatever case, is named, and nothing is changed."""
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    kind.put(place, b"newer")
    before = state(kind.store)
    name = place[::-1].replace("/", ":", 1)[::-1]
    for wanted in ("smol", "SMOL"):
        with pytest.raises(ModelExistsError, match=name) as caught:
            cache.restore(wanted)
        assert caught.value.name == name
    assert state(kind.store) == before
    kind.store.discard(place, (), 0.0)
    assert cache.restore("smol") == NAME


def test_what_cannot_be_restored_says_which_blobs_are_gone(kind: Kind, cache: ModelCache) -> None:
    """The error and the list have the digests of just the blobs that are gone."""
    kind.put(KEY, b"weights", b"template", b"license")
    assert kind.store.discard(KEY, [blob(b"template")], kind.clock())
    for data in (b"weights", b"template", b"license"):
        kind.sweep_blob(blob(data))
    gone = {digest(b"weights"), digest(b"license")} | (
        set() if kind.holds else {digest(b"template")}
    )
    [deleted] = cache.deleted()
    assert not deleted.restorable
    assert set(deleted.missing) == gone
    before = state(kind.store)
    with pytest.raises(ModelIncompleteError, match=NAME) as caught:
        cache.restore("smol")
    assert set(caught.value.missing) == gone
    assert all(one in str(caught.value) for one in gone)
    assert state(kind.store) == before
    for data in (b"weights", b"template", b"license"):
        kind.put_blob(blob(data), data)
    assert cache.deleted()[0].restorable
    assert cache.restore("smol") == NAME


@pytest.mark.parametrize("data", [b"", b"weigh", b"weights and more"])
def test_a_blob_of_the_wrong_size_gives_way_to_the_one_held(
    kind: Kind, cache: ModelCache, data: bytes
) -> None:
    """What the trash holds replaces a blob that is short or too long, when the model comes back."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    kind.put_blob(blob(b"weights"), data)
    assert cache.deleted()[0].restorable
    assert content(kind.store, blob(b"weights")) == data
    cache.restore("smol")
    assert content(kind.store, blob(b"weights")) == b"weights"
    assert lacking(kind) == []


def test_a_blob_of_the_wrong_size_is_missing(kind: Kind, cache: ModelCache) -> None:
    """Where the trash holds none, a blob of another size than the manifest says does not do."""
    kind.put(KEY, b"weights")
    assert kind.store.discard(KEY, (), kind.clock())
    kind.put_blob(blob(b"weights"), b"weigh")
    [deleted] = cache.deleted()
    assert deleted.missing == (digest(b"weights"),)
    with pytest.raises(ModelIncompleteError):
        cache.restore("smol")
    assert content(kind.store, blob(b"weights")) == b"weigh"


def test_a_blob_of_no_stated_size_needs_only_be_there(kind: Kind, cache: ModelCache) -> None:
    """A manifest without sizes can be deleted, listed and restored."""
    data = manifest(b"weights").replace(b'"size": 7', b'"size": null')
    kind.put(KEY, b"weights")
    kind.put_manifest(KEY, data)
    assert cache.models()[0].size == 2
    cache.unlink("smol")
    assert cache.deleted()[0].restorable
    assert cache.deleted()[0].size == 2
    assert cache.restore("smol") == NAME


# Manifests that cannot be read

UNREADABLE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    b'{"layers": [{"digest": "sha256:xyz"}]}',
    b"[" * 20_000,
    manifest(b"weights")[:-10],
]


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_manifest_that_cannot_be_read_can_be_deleted(
    kind: Kind, cache: ModelCache, data: bytes
) -> None:
    """It is listed with the deleted as one that cannot be restored, and a restore says why."""
    kind.put_manifest(KEY, data)
    assert cache.unlink("smol") is True
    [deleted] = cache.deleted()
    assert (deleted.name, deleted.size, deleted.restorable) == (NAME, 0, False)
    before = state(kind.store)
    with pytest.raises(InvalidManifestError, match="smol") as caught:
        cache.restore("smol")
    assert "not a manifest" in str(caught.value)
    assert state(kind.store) == before
    assert state(kind.store)["manifests"] == {}


def test_blobs_of_a_manifest_that_cannot_be_read_are_held(kind: Kind, cache: ModelCache) -> None:
    """Every digest that stands in it counts, so that it can be put right by hand."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    data = kind.put(KEY, b"weights", b"template")
    kind.put_manifest(KEY, data[:-1])
    cache.unlink("smol")
    [entry] = kind.store.deleted()
    assert kind.store.blob_in_trash(entry, blob(b"weights"))
    assert kind.store.blob_in_trash(entry, blob(b"template"))


def test_an_older_delete_comes_back_where_the_latest_cannot_be_read(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """A restore falls back to the latest that has a manifest, and leaves the other."""
    older = kind.put(KEY, b"older")
    cache.unlink("smol")
    clock.move(minutes=1)
    kind.put_manifest(KEY, b"{")
    cache.unlink("smol")
    assert [deleted.restorable for deleted in cache.deleted()] == [False, True]
    assert cache.restore("smol") == NAME
    assert state(kind.store)["manifests"] == {KEY: older}
    assert [deleted.restorable for deleted in cache.deleted()] == [False]
    assert lacking(kind) == []


# Lists


def test_models_are_listed_by_name(kind: Kind, cache: ModelCache) -> None:
    """The list has full names in their order, however the store gives them."""
    keys = [KEY, OTHER, f"{HOST}/library/smol/7b", f"{HOST}/library/Smol/latest", "a/z/z/z"]
    for key in keys:
        kind.put(key, b"weights")
    assert names(cache.models()) == [
        "a/z/z:z",
        "example.com/ns/other:v1",
        f"{HOST}/library/Smol:latest",
        f"{HOST}/library/smol:7b",
        NAME,
    ]
    assert str(cache.models()[-1]) == NAME


def test_a_model_has_its_size_and_what_of_it_is_shared(kind: Kind, cache: ModelCache) -> None:
    """The size is that of all its blobs, once each; shared is what other models use too."""
    kind.put(KEY, b"weights", b"template", b"template")
    kind.put(OTHER, b"other", b"template")
    kind.put("h/n/alone/t", b"alone", config=b"its own")
    sizes = {model.name: (model.size, model.shared) for model in cache.models()}
    assert sizes == {
        NAME: (7 + 8 + 2, 8 + 2),
        "example.com/ns/other:v1": (5 + 8 + 2, 8 + 2),
        "h/n/alone:t": (5 + 7, 0),
    }
    cache.unlink("example.com/ns/other:v1")
    assert {model.name: model.shared for model in cache.models()} == {NAME: 0, "h/n/alone:t": 0}


def test_models_together_have_each_blob_once(kind: Kind, cache: ModelCache) -> None:
    """What only they share is not shared with others; who is not there counts nothing."""
    kind.put(KEY, b"weights", b"template")
    kind.put(OTHER, b"other", b"template")
    kind.put(f"{HOST}/library/third/latest", b"third", b"template")
    config = 2  # bytes, and the same in all of them
    assert cache.usage([]) == cache.usage(["absent"]) == Usage(0, 0)
    assert cache.usage(["smol"]) == Usage(7 + 8 + config, 8 + config)
    assert cache.usage(["SMOL", "absent", NAME]) == cache.usage(["smol"])
    pair = ["smol", "example.com/ns/other:v1"]
    assert cache.usage(pair) == Usage(7 + 5 + 8 + config, 8 + config)
    assert cache.usage([*pair, "third"]) == Usage(7 + 5 + 5 + 8 + config, 0)
    with pytest.raises(InvalidNameError):
        cache.usage(["../x"])


def test_a_model_has_the_time_of_its_manifest(kind: Kind, cache: ModelCache, clock: Clock) -> None:
    """It is an aware time in UTC."""
    kind.put(KEY, b"weights")
    [model] = cache.models()
    assert model.modified.tzinfo is UTC
    assert abs(model.modified.timestamp() - clock()) < 3600


def test_a_manifest_that_cannot_be_read_is_left_out_with_a_warning(
    kind: Kind, cache: ModelCache, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names it, and the other models are listed."""
    kind.put(KEY, b"weights")
    kind.put_manifest(OTHER, b"{")
    kind.put_manifest("h/n/m/t", b'{"layers": [{"digest": "sha256:short"}]}')
    with caplog.at_level(logging.WARNING, "registry_wsgi"):
        assert names(cache.models()) == [NAME]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert any(OTHER in warning for warning in warnings)
    assert any("h/n/m/t" in warning and "short" in warning for warning in warnings)


def test_a_name_cannot_forge_a_line_of_the_log(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """A line end in the name of a file is escaped in the warning."""
    tree.write("h/n/m/x\nWARNING forged", b"{}")
    assert ModelCache(DiskStore(tree.root)).models() == []
    assert caplog.records
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_file_that_is_no_model_is_left_out_with_a_warning(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """What other programs leave among the manifests is named, and is no model."""
    tree.add("smol", b"weights")
    tree.write(f"{HOST}/library/smol/.DS_Store", b"junk")
    assert names(ModelCache(DiskStore(tree.root)).models()) == [NAME]
    assert any(".DS_Store" in record.getMessage() for record in caplog.records)


def test_the_deleted_are_listed_latest_first(kind: Kind, cache: ModelCache, clock: Clock) -> None:
    """Each has its name, size, the moment of its deletion, and when it expires."""
    start = clock.now
    kind.put(KEY, b"weights")
    kind.put(OTHER, b"other", config=b"config")
    cache.unlink("smol")
    clock.move(days=1)
    cache.unlink("example.com/ns/other:v1")
    later, earlier = cache.deleted()
    assert (later.name, earlier.name) == ("example.com/ns/other:v1", NAME)
    assert (later.size, earlier.size) == (5 + 6, 7 + 2)
    assert earlier.restorable
    assert earlier.missing == ()
    assert str(earlier) == NAME
    for model, moment in ((earlier, start), (later, start + 86_400)):
        deleted = datetime.fromtimestamp(moment, UTC)
        assert abs(model.deleted - deleted) < timedelta(milliseconds=1)
        assert model.deleted.tzinfo is UTC
        assert model.expires - model.deleted == timedelta(days=7)


class Broken(DiskStore):
    """A disk that cannot read some manifests in the trash."""

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        """Read the trash, but for the model named ``bad``."""
        for entry, found in super().read_all_deleted(known):
            bad = "/bad/" in entry.key
            yield entry, StoreError(f"{entry.key}: Input/output error") if bad else found


def test_one_manifest_in_the_trash_that_cannot_be_read_hides_no_other(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """It is listed as not restorable, and a warning names it."""
    cache = ModelCache(Broken(tree.root))
    for name in ("smol", "bad"):
        tree.add(name, b"weights")
        cache.unlink(name)
    bad, good = cache.deleted()
    assert (bad.name, bad.restorable) == (f"{HOST}/library/bad:latest", False)
    assert (good.name, good.restorable) == (NAME, True)
    assert "Input/output error" in caplog.text


def test_a_model_has_the_time_at_which_its_manifest_was_written(tree: Tree) -> None:
    """Not that of a later change of its owner, its mode or its links."""
    path = tree.add("smol", b"weights")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    path.chmod(0o600)
    [model] = ModelCache(DiskStore(tree.root)).models()
    assert model.modified == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


ODD = f"{HOST}/library/my model/latest"


def test_a_model_under_a_name_that_is_not_valid_is_listed_as_such(tree: Tree) -> None:
    """By the path of its manifest; its blobs are shared like any others."""
    tree.add("smol", b"weights")
    tree.add(ODD, b"weights")
    odd, good = ModelCache(DiskStore(tree.root)).models()
    assert (odd.name, odd.valid, odd.protected) == (ODD, False, False)
    assert (good.name, good.valid) == (NAME, True)
    assert odd.shared == len(b"weights{}")


def test_a_model_under_a_name_that_is_not_valid_is_deleted_by_its_path(tree: Tree) -> None:
    """And restored by it; no other spelling of it, and no way out of the store, is taken."""
    path = tree.add(ODD, b"weights")
    cache = ModelCache(DiskStore(tree.root))
    for name in ("my model", ODD.upper(), f"../manifests/{HOST}/library/my model"):
        with pytest.raises(InvalidNameError):
            cache.unlink(name)
    with pytest.raises(InvalidNameError):
        cache.unlink(f"{HOST}/library/smol/latest")
    assert cache.unlink(ODD)
    assert not path.exists()
    [deleted] = cache.deleted()
    assert (deleted.name, deleted.restorable) == (ODD, True)
    assert cache.restore(ODD) == ODD
    assert path.exists()


def test_lists_of_an_empty_store_are_empty(cache: ModelCache) -> None:
    """There are no models, neither listed nor deleted."""
    assert cache.models() == []
    assert cache.deleted() == []


def test_what_a_list_gives_cannot_be_changed(kind: Kind, cache: ModelCache) -> None:
    """Models, deleted models and reports are frozen."""
    kind.put(KEY, b"weights")
    [model] = cache.models()
    cache.unlink("smol")
    records: list[Any] = [model, *cache.deleted(), cache.prune()]
    for record in records:
        with pytest.raises(FrozenInstanceError):
            setattr(record, fields(record)[0].name, "other")


# The retention


def test_a_deleted_model_is_kept_until_it_expires(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """A prune before the retention is over removes nothing; one after removes the model."""
    kind.put(KEY, b"weights", b"template")
    kind.put(OTHER, b"other", b"template")
    cache.unlink("smol")
    clock.move(days=6, hours=23)
    assert cache.prune() == PruneReport()
    assert cache.deleted()[0].restorable
    clock.move(hours=2)
    plan = cache.prune(dry_run=True)
    assert plan.dry_run
    assert cache.deleted()[0].restorable
    report = cache.prune()
    assert not report.dry_run
    assert (plan.models, plan.blobs, plan.bytes) == (report.models, report.blobs, report.bytes)
    assert report.models == 1
    if kind.remote:  # then the blob goes later, as nobody can tell that the store is at rest
        assert report.held_blobs == 1
        clock.move(days=1)
        report = cache.prune()
    assert (report.blobs, report.bytes) == (1, len(b"weights"))
    assert cache.deleted() == []
    with pytest.raises(ModelNotFoundError):
        cache.restore("smol")
    assert set(state(kind.store)["blobs"]) == {
        blob(data) for data in (b"other", b"template", b"{}")
    }
    assert lacking(kind) == []
    assert cache.prune() == PruneReport()


def test_with_no_retention_a_delete_is_final(kind: Kind, clock: Clock) -> None:
    """The prune that follows a delete removes what only that model used, and nothing else."""
    cache = ModelCache(kind.store, retention=0, clock=clock)
    kind.put(KEY, b"weights", b"template")
    kind.put(OTHER, b"other", b"template")
    kind.put_blob("sha256-aa", b"nobody's")
    clock.move(hours=2)  # no pull shows any more
    cache.unlink("smol")
    report = cache.prune_deleted()
    # In a bucket they go with a later prune.
    gone = (0, 0) if isinstance(kind, BucketKind) else (1, len(b"weights"))
    assert (report.models, report.blobs, report.bytes) == (1, *gone)
    assert report.held_blobs == 1 - gone[0]
    assert cache.deleted() == []
    assert "sha256-aa" in state(kind.store)["blobs"]
    assert lacking(kind) == []


def test_an_age_replaces_the_retention_for_one_run(
    kind: Kind, cache: ModelCache, clock: Clock
) -> None:
    """``prune(age=…)`` removes what is older than that, and an age of 0 all that is deleted."""
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    clock.move(hours=2)
    assert cache.prune(age="3h").models == 0
    assert cache.prune(age=timedelta(hours=1)).models == 1
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    assert cache.prune(age=0).models == 1
    assert cache.deleted() == []


def test_a_restored_model_is_not_pruned(kind: Kind, cache: ModelCache, clock: Clock) -> None:
    """A model that came back in time stays, however long ago it was deleted."""
    kind.put(KEY, b"weights")
    cache.unlink("smol")
    clock.move(days=6)
    cache.restore("smol")
    clock.move(days=60)
    assert cache.prune().models == 0
    assert names(cache.models()) == [NAME]
    assert lacking(kind) == []


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("2d", 172_800), (timedelta(days=2), 172_800), (90, 90), (0.5, 0.5), (0, 0), ("0", 0)],
)
@pytest.mark.parametrize("option", ["retention", "in_flight", "hold"])
def test_durations_are_given_in_three_ways(option: str, duration: Duration, seconds: float) -> None:
    """As text, as a timedelta or as seconds, for each of the three."""
    cache = ModelCache(MemoryStore(), **{option: duration})  # type: ignore[arg-type]
    assert getattr(cache, option) == seconds


def test_the_durations_have_defaults() -> None:
    """Seven days, an hour and a day."""
    cache = ModelCache(MemoryStore())
    assert (cache.retention, cache.in_flight, cache.hold) == (604_800, 3_600, 86_400)


@pytest.mark.parametrize("duration", ["", "7", "-1d", "soon", -1, float("nan"), timedelta(-1)])
@pytest.mark.parametrize("option", ["retention", "in_flight", "hold", "age"])
def test_what_is_no_duration_is_refused(option: str, duration: Duration) -> None:
    """The error is a ValueError too, and comes before the store is touched."""
    store: Any = Untouched()
    options: dict[str, Any] = {option: duration}
    step: Callable[[], object] = partial(ModelCache, store, **options)
    if option == "age":
        step = partial(ModelCache(store).prune, **options)
    with pytest.raises(InvalidDurationError, match="invalid duration"):
        step()


# Errors


def test_a_store_that_fails_leaves_the_model(tree: Tree) -> None:
    """A delete or restore that the storage refuses raises, and can be done again."""
    tree.add("smol", b"weights")
    before = tree.files()
    cache = ModelCache(DiskStore(tree.root))
    with watched(failing(28, *CHANGING)), pytest.raises(StoreError, match=str(tree.root)):
        cache.unlink("smol")
    assert tree.files() == before
    assert cache.unlink("smol") is True
    with watched(failing(28, *CHANGING)), pytest.raises(StoreError, match=str(tree.root)):
        cache.restore("smol")
    assert cache.deleted()[0].restorable
    assert cache.restore("smol") == NAME
    assert tree.files() == before


def test_blobs_come_back_before_the_manifest(tree: Tree) -> None:
    """Whenever a restore is looked at, a model that is listed has all its blobs."""
    tree.add("smol", b"weights", b"template")
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("smol")
    for path in tree.blobs.iterdir():
        path.unlink()
    seen = []

    def look(call: Call) -> None:
        assert broken(tree.root) == []
        seen.append(tree.path("smol").exists())

    with watched(look):
        cache.restore("smol")
    assert seen[0] is False
    assert seen[-1] is True
    assert broken(tree.root) == []


# Several at once


def restoring(cache: ModelCache, name: str) -> Callable[[], str]:
    """Restore *name*, if another has not done so."""

    def step() -> str:
        try:
            return cache.restore(name)
        except (ModelExistsError, ModelNotFoundError) as error:
            return type(error).__name__

    return step


@pytest.mark.usefixtures("switching")
def test_of_50_deletes_of_10_models_10_succeed(kind: Kind, clock: Clock) -> None:
    """Each model is deleted by exactly one of its five threads, in whatever case they write it."""
    for number in range(10):
        kind.put(f"{HOST}/library/m{number}/latest", b"weights %d" % number, b"template")

    def delete(number: int) -> Callable[[], tuple[str, bool]]:
        cache = ModelCache(kind.another(), clock=clock)
        name = f"m{number % 10}"
        written = name.upper() if number % 3 == 0 else name
        return lambda: (name, cache.unlink(written))

    won = race(*map(delete, range(50)))
    assert Counter(name for name, deleted in won if deleted) == {f"m{n}": 1 for n in range(10)}
    cache = ModelCache(kind.store, clock=clock)
    assert cache.models() == []
    assert len(cache.deleted()) == 10
    assert all(model.restorable for model in cache.deleted())


@pytest.mark.usefixtures("switching")
def test_of_many_restores_the_model_comes_back_once(kind: Kind, clock: Clock) -> None:
    """At least one says so, the others find it in place or gone from the trash."""
    data = kind.put(KEY, b"weights", b"template")
    for _ in range(2 if kind.remote else 5):
        assert ModelCache(kind.store, clock=clock).unlink("smol")
        caches = [ModelCache(kind.another(), clock=clock) for _ in range(8)]
        assert NAME in race(*(restoring(cache, "smol") for cache in caches))
        assert state(kind.store)["manifests"] == {KEY: data}
        assert caches[0].deleted() == []
        assert lacking(kind) == []


def test_a_restore_that_another_overtakes_finds_the_model_in_place(tree: Tree) -> None:
    """When another restores the model while blobs are put back, that is what the error says."""
    tree.add("smol", b"weights", b"template")
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("smol")
    for path in tree.blobs.iterdir():
        path.unlink()
    with watched(Once("link", lambda *arguments: cache.restore("smol"))):
        assert restoring(cache, "smol")() in (NAME, "ModelExistsError", "ModelNotFoundError")
    assert names(cache.models()) == [NAME]
    assert broken(tree.root) == []


@pytest.mark.usefixtures("switching")
def test_deletes_with_no_retention_do_not_disturb_each_other(kind: Kind, clock: Clock) -> None:
    """Each of many threads that delete and prune at once gets its answer, and all is gone."""
    models = 12 if kind.remote else 24  # where each prune takes many requests
    for number in range(models):
        kind.put(f"{HOST}/library/m{number}/latest", b"weights %d" % (number % 6))

    def step(part: int) -> Callable[[], int]:
        cache = ModelCache(kind.another(), retention=0, clock=clock)

        def delete() -> int:
            deleted = 0
            for number in range(part, models, 6):
                deleted += cache.unlink(f"m{number}")
                cache.prune_deleted()
            return deleted

        return delete

    assert sum(race(*map(step, range(6)))) == models
    cache = ModelCache(kind.store, retention=0, clock=clock)
    cache.prune(age=0)
    assert state(kind.store) == {"manifests": {}, "blobs": {}, "deleted": {}, "condemned": []}


def test_processes_that_delete_and_restore_lose_nothing(tree: Tree) -> None:
    """After any mix of both in several processes each model is listed, or comes back whole."""
    models = [f"m{number}" for number in range(3)]
    for name in models:
        tree.add(name, b"weights of " + name.encode(), b"template")
    before = tree.files()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        done = [pool.submit(hammer, str(tree.root), models, seed, 150) for seed in range(3)]
        counts = [future.result() for future in done]
    assert all(deletes > 5 and restores > 5 for deletes, restores in counts)
    assert broken(tree.root) == []
    cache = ModelCache(DiskStore(tree.root))
    listed = names(cache.models())
    for name in models:
        if f"{HOST}/library/{name}:latest" not in listed:
            cache.restore(name)
    assert tree.files() == before


# What it costs


SIZES = (10, 1_000)


@pytest.fixture
def stores(tmp_path: Path) -> list[DiskStore]:
    """A store for each of the sizes, with as many models and as many blobs besides."""
    made = []
    for size in SIZES:
        tree = Tree(tmp_path / str(size) / "models")
        data = tree.add("m0", b"weights", b"template").read_bytes()
        for number in range(1, size):
            tree.write(f"m{number}", data)
            (tree.blobs / f"sha256-{number:064}").write_bytes(b"")
        tree.trash.mkdir()
        store = DiskStore(tree.root)
        store.append_history("{}")  # else the first delete makes that file
        made.append(store)
    return made


def _costs(step: Callable[[str], object], cache: ModelCache) -> Counter[str]:
    """The calls of the system that a delete by *step* takes, the same for each of three models."""
    costs = []
    for name in ("m0", "m1", "m2"):
        with counted() as calls:
            step(name)
        costs.append(calls)
        assert len(cache.deleted()) == 1
        cache.restore(name)
    assert costs[0] == costs[1] == costs[2]
    return costs[0]


def test_a_delete_costs_the_same_in_a_larger_store(stores: list[DiskStore]) -> None:
    """In a store of 10 and of 1,000 models a delete asks the system for the same."""
    caches = [ModelCache(store) for store in stores]
    small, large = (_costs(cache.unlink, cache) for cache in caches)
    assert small == large
    assert small["rename"] == 1
    assert small["entries"] == 0


@pytest.mark.usefixtures("trusting")
def test_a_request_costs_the_same_in_a_larger_store(stores: list[DiskStore]) -> None:
    """The same for a request with the prune after it, which lists the trash alone."""
    costs = []
    for store in stores:
        cache = ModelCache(store)
        client = Client(LocalRegistry(cache=cache))

        def delete(name: str, client: Client = client) -> None:
            assert client.delete("/api/delete", json={"model": name}).status_code == 200

        costs.append(_costs(delete, cache))
    assert costs[0] == costs[1]
    assert costs[0]["rename"] == 1
    assert 0 < costs[0]["entries"] < 10


def test_what_does_cost_more_is_counted(stores: list[DiskStore]) -> None:
    """A list of all models, and a name in another case, are seen to cost more in a larger one."""
    for step in (ModelCache.models, lambda cache: cache.unlink("M0")):
        costs = []
        for store in stores:
            with counted() as calls:
                step(ModelCache(store))
            costs.append(calls["entries"])
        assert costs[1] - costs[0] >= SIZES[1] - SIZES[0]


def test_all_errors_have_one_root() -> None:
    """One ``except`` clause is enough for whatever a cache raises."""
    for error in (InvalidNameError, ModelExistsError, ModelNotFoundError, ModelIncompleteError):
        assert issubclass(error, RegistryError)
