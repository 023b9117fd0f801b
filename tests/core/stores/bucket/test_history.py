"""The history of a bucket: none unless asked for, and no delete depends on it."""

from __future__ import annotations

import threading

import pytest

from kit.bucket_seam import Seam
from kit.kinds import BucketKind
from registry_wsgi import ModelCache
from registry_wsgi.stores.base import HistoryStore

KEY = "registry.ollama.ai/library/smol/latest"


def written() -> None:
    """Wait until the lines are in the bucket."""
    for thread in threading.enumerate():
        if thread.name == "registry_wsgi history":
            thread.join(20)
            assert not thread.is_alive()


def test_without_being_asked_for_there_is_none(bucket: BucketKind) -> None:
    """So a delete makes no request for it."""
    bucket.put(KEY, b"weights")
    cache = ModelCache(bucket.store)
    assert not isinstance(bucket.store, HistoryStore)
    cache.unlink("smol")
    written()
    assert cache.history() == []
    assert not [key for key in bucket.objects() if key.startswith("history/")]


def test_the_last_changes_are_kept(kind: BucketKind) -> None:
    """As many as were asked for, once a prune has removed the others; whoever looks has them."""
    kind.put(KEY, b"weights")
    kind.tune(history=3)
    cache = ModelCache(kind.store)
    for _ in range(2):
        cache.unlink("smol")
        written()
        cache.restore("smol")
        written()
    cache.unlink("smol")
    written()
    assert cache.deleted()[0].id == cache.history()[0].id
    cache.prune(age="1d")
    written()
    other = ModelCache(kind.another())
    assert [change.action for change in other.history()] == ["prune", "delete", "restore"]
    other.prune(age="1d")
    written()
    # It removed nothing, so that it is not noted.
    assert len([key for key in kind.objects() if key.startswith("history/")]) == 3


def test_whatever_fails_the_delete_stands(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is left out."""
    bucket.put(KEY, b"weights")
    bucket.tune(history=3)
    cache = ModelCache(bucket.store)

    def fail(request: str, key: object, mode: object) -> None:
        del mode
        if request == "put" and str(key).startswith("history/"):
            raise OSError("no network")

    with monkeypatch.context() as patch:
        Seam(patch, fail)
        assert cache.unlink("smol")
        written()
    assert cache.history() == []
    assert len(cache.deleted()) == 1


def test_many_lines_wait_for_one_another(bucket: BucketKind) -> None:
    """Rather than take a thread each without an end."""
    bucket.tune(history=100)
    store = bucket.store
    assert isinstance(store, HistoryStore)
    for number in range(40):
        store.append_history(f"{number}")
        assert len([one for one in threading.enumerate() if "history" in one.name]) <= 9
    written()
    assert sorted(map(int, store.history())) == list(range(40))
