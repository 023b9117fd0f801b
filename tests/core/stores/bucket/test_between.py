"""Another program comes between the requests of one step."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kit import inside
from kit.bucket_seam import Seam
from kit.kinds import BucketKind
from kit.views import purge
from registry_wsgi import ModelCache
from registry_wsgi.errors import ModelExistsError, StoreError
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Deleted

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"


def test_a_manifest_that_is_pulled_anew_meanwhile_is_what_is_deleted(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull between the copy to the trash and the tombstone is not lost: the trash has that."""
    bucket.put_manifest(KEY, b"old")
    store = bucket.another()
    store.discard(OTHER, (), 1.0)
    times = iter(range(3))

    def hook(name: str, key: str, mode: object) -> None:
        if name == "put" and isinstance(mode, dict) and key == f"manifests/{KEY}":
            seam.active = False
            if (time := next(times, None)) is not None:
                bucket.put_manifest(KEY, b"new %d" % time)
                seam.active = True

    bucket.store.discard(KEY, (), 1.0)
    bucket.put_manifest(KEY, b"old")
    seam = Seam(monkeypatch, hook)
    entry = store.discard(KEY, (), 2.0)
    assert entry is not None
    found = store.read_deleted(entry)
    assert found is not None
    assert found.data == b"new 2"
    assert store.read(KEY) is None
    assert len(store.deleted()) == 2


def test_a_manifest_that_is_pulled_anew_before_the_delete_is_what_is_deleted(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is not read again, and yet a pull after that is not lost."""
    bucket.put_manifest(KEY, b"old")
    cache = ModelCache(bucket.another())

    def hook(name: str, key: str, mode: object) -> None:
        if (name, key) == ("list", "protected"):
            bucket.put_manifest(KEY, b"new")

    Seam(monkeypatch, hook)
    assert cache.unlink("smol")
    [entry] = cache.store.deleted()
    found = cache.store.read_deleted(entry)
    assert found is not None
    assert found.data == b"new"


def test_what_was_found_is_read_again_later(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the next call has it, and not for long."""
    store = bucket.another()
    name = Name.parse("smol")

    def read() -> bytes:
        found = store.read(KEY)
        return found.data if found else b""

    for wait in (0, 6):
        bucket.put_manifest(KEY, b"old")
        assert store.find(name) == KEY
        bucket.put_manifest(KEY, b"new")
        with monkeypatch.context() as patch:
            inside.move_monotonic(patch, seconds=wait)
            assert read() == (b"new" if wait else b"old")
            assert read() == b"new"


def test_a_clock_that_is_set_is_noticed_by_the_next_delete(bucket: BucketKind) -> None:
    """As long as nobody sets it, it was compared with that of the store once; then it is again."""
    ahead = [0.0]
    bucket.store_clock = lambda: time.time() + ahead[0]
    cache = ModelCache(bucket.another())
    for key in (KEY, OTHER):
        bucket.put(key, b"weights")
    assert cache.unlink("smol")
    for ahead[0] in (-360, 360):
        with pytest.raises(StoreError, match="ages mean nothing"):
            cache.unlink("example.com/ns/other:v1")
    assert [model.name for model in cache.models()] == ["example.com/ns/other:v1"]
    assert len(cache.deleted()) == 1
    ahead[0] = 30
    assert cache.unlink("example.com/ns/other:v1")


def test_a_manifest_that_never_stays_the_same_is_not_deleted(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries it is an error that names it; the manifest stays, the trash is empty."""
    bucket.put_manifest(KEY, b"old")
    number = 0

    def hook(name: str, key: str, mode: object) -> None:
        nonlocal number
        if name == "put" and isinstance(mode, dict) and key == f"manifests/{KEY}":
            number += 1
            seam.active = False
            bucket.put_manifest(KEY, b"new %d" % number)
            seam.active = True

    seam = Seam(monkeypatch, hook)
    with pytest.raises(StoreError, match=rf"bucket/manifests/{KEY}: is changed again and again"):
        bucket.store.discard(KEY, (), 2.0)
    seam.active = False
    assert bucket.store.deleted() == []
    assert content_of(bucket, KEY) == b"new %d" % number


def content_of(kind: BucketKind, key: str) -> bytes | None:
    """The manifest at *key*."""
    found = kind.store.read(key)
    return found.data if found else None


def test_a_restore_that_loses_to_a_removal_leaves_no_model(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blobs may go with the entry of the trash: so the manifest does not stay either."""
    bucket.put_manifest(KEY, b"{}")
    entry = bucket.store.discard(KEY, (), 1.0)
    assert isinstance(entry, Deleted)

    def hook(name: str, key: str, mode: object) -> None:
        if name == "put" and key == f"manifests/{KEY}":
            seam.active = False
            assert other.forget(entry)

    other = bucket.another()
    seam = Seam(monkeypatch, hook)
    assert bucket.store.recover(entry) is False
    assert [key for key in bucket.objects() if not key.startswith("probe")] == []


def test_a_restore_waits_for_a_delete_under_way(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put there between the tombstone and its removal would be removed with it."""
    bucket.put_manifest(KEY, b"older")
    older = bucket.store.discard(KEY, (), 1.0)
    assert older is not None
    bucket.put_manifest(KEY, b"newer")
    bucket.tune(patience=0.1)
    other = bucket.another()
    said: list[object] = []

    def hook(name: str, key: str, mode: object) -> None:
        if name == "delete" and key == f"manifests/{KEY}":
            seam.active = False
            with pytest.raises(StoreError, match="another process is just removing it") as caught:
                other.recover(older)
            said.append(caught)

    seam = Seam(monkeypatch, hook)
    assert bucket.store.discard(KEY, (), 2.0) is not None
    assert said
    assert len(other.deleted()) == 2
    assert other.recover(older) is True
    assert content_of(bucket, KEY) == b"older"


@pytest.mark.parametrize("key", [f"manifests/{KEY}", "condemned/sha256-aa"])
def test_what_a_write_did_counts_and_not_its_answer(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The answer to the write that decides gets lost: it is known for done, and done once."""
    import obstore

    bucket.put_manifest(KEY, b"{}")
    bucket.put_blob("sha256-aa", b"x")

    class Lossy:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def put(self, store: Any, path: str, *rest: Any, **options: Any) -> Any:
            done = obstore.put(store, path, *rest, **options)
            if path == key:
                raise obstore.exceptions.GenericError("the connection was closed")
            return done

    inside.replace_obstore(monkeypatch, Lossy())
    assert bucket.store.discard(KEY, (), 1.0) is not None
    [aside] = bucket.store.condemn(["sha256-aa"], 1.0)
    assert purge(bucket.store, aside) is True
    assert list(bucket.store.versions()) == []
    assert list(bucket.store.blobs()) == []


@pytest.mark.parametrize("blind", ["create", "replace"])
def test_a_store_that_ignores_conditions_is_refused(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """Where any write goes through, nobody knows who has won: nothing is changed."""
    import obstore

    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")
    before = bucket.objects()

    class Blind:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def put(self, *rest: Any, mode: Any, **options: Any) -> Any:
            ignored = (mode == "create") == (blind == "create")
            return obstore.put(*rest, mode=None if ignored else mode, **options)

    inside.replace_obstore(monkeypatch, Blind())
    for step in (
        lambda: ModelCache(bucket.another()).unlink("smol"),
        lambda: ModelCache(bucket.another()).prune(age=0),
    ):
        with pytest.raises(StoreError, match="does not keep to the conditions of a write"):
            step()
    assert bucket.objects() == before


@pytest.mark.parametrize("numbers", [False, True])
def test_a_version_means_that_old_ones_are_kept_but_for_gcs(
    bucket: BucketKind,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    numbers: bool,
) -> None:
    """GCS numbers all writes, in any bucket: that is no reason for a warning."""
    import obstore
    from obstore.store import GCSStore

    class Numbering:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def head(self, store: Any, path: str) -> Any:
            return obstore.head(store, path) | {"version": "1"}

        def put(self, *rest: Any, mode: Any, **options: Any) -> Any:
            mode = mode if mode == "create" else {"e_tag": mode["e_tag"]}
            return obstore.put(*rest, mode=mode, **options)

    store = bucket.another()
    gcs = inside.bucket_class()(GCSStore("models", skip_signature=True), "gcs")
    assert (gcs.numbers, inside.bucket_of(store).numbers) == (True, False)
    inside.bucket_of(store).numbers = numbers
    bucket.put(KEY, b"weights")
    inside.replace_obstore(monkeypatch, Numbering())
    assert ModelCache(store).unlink("smol")
    assert ("keeps old versions" in caplog.text) is not numbers


def test_a_model_that_was_restored_meanwhile_does_not_come_back_twice(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a moment: a delete in that moment would be told that it deleted a model."""
    bucket.put_manifest(KEY, b"{}")
    entry = bucket.store.discard(KEY, (), 1.0)
    assert entry is not None
    other = bucket.another()
    assert bucket.store.read_deleted(entry) is not None
    assert other.recover(entry) is True
    again = other.discard(KEY, (), 2.0)
    written: list[str] = []
    Seam(monkeypatch, lambda name, key, mode: written.append(key) if name == "put" else None)
    assert bucket.store.recover(entry) is False
    assert written == []
    assert bucket.store.deleted() == [again]


def test_a_restore_finds_what_has_come_in_its_place(bucket: BucketKind) -> None:
    """It does not ask for the manifest first, and yet sees it among the folders; in any case."""
    bucket.put_manifest(KEY, b"{}")
    entry = bucket.store.discard(KEY, (), 1.0)
    assert entry is not None
    for there in (KEY, KEY.replace("smol", "Smol")):
        bucket.put_manifest(there, b"new")
        assert bucket.store.read_deleted(entry) is not None
        assert bucket.store.find(Name.parse("smol")) == there
        assert bucket.store.discard(there, (), 2.0) is not None


def test_a_restore_never_takes_a_model_for_its_own(bucket: BucketKind) -> None:
    """Another's manifest of the same bytes is another's."""
    bucket.put_manifest(KEY, b"{}")
    entry = bucket.store.discard(KEY, (), 1.0)
    assert entry is not None
    bucket.put_manifest(KEY, b"{}")
    with pytest.raises(ModelExistsError):
        bucket.store.recover(entry)
    assert bucket.store.deleted() == [entry]


def test_a_removal_that_is_tried_again_takes_nothing_that_has_come_since(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, and a pull has written the manifest anew: that stays."""
    import obstore

    bucket.put_manifest(KEY, b"old")
    bucket.tune(bury_pauses=(0.0,))
    lost: list[object] = []

    class Lossy:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def delete(self, store: Any, path: Any) -> None:
            obstore.delete(store, path)
            if path == f"manifests/{KEY}" and not lost:
                lost.append(path)
                bucket.put_manifest(KEY, b"new")
                raise obstore.exceptions.GenericError("the connection was closed")

    inside.replace_obstore(monkeypatch, Lossy())
    assert bucket.store.discard(KEY, (), 1.0) is not None
    assert lost
    assert content_of(bucket, KEY) == b"new"
