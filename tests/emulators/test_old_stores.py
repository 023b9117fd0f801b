"""Stores behind S3 that cannot do all that S3 does, or want to be asked as in old times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kit import inside
from kit.clocks import Clock
from kit.kinds import ConditionalKind, S3Kind, VersionedKind
from kit.proxy import Proxy, proxied
from kit.trees import blob, manifest
from kit.views import content
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

AA, BB = blob(b"a"), blob(b"b")
KEY = "registry.ollama.ai/library/smol/latest"


@pytest.fixture(params=[S3Kind, VersionedKind], ids=["plain", "versioned"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> S3Kind:
    """An empty store behind S3, in a bucket with and without versions."""
    kind = request.param(tmp_path, Clock())
    assert isinstance(kind, S3Kind)
    return kind


@pytest.fixture
def proxy(kind: S3Kind) -> Iterator[Proxy]:
    """What answers as such a store does."""
    with proxied(kind.endpoint.url) as proxy:
        yield proxy


def cache_through(proxy: Proxy, kind: S3Kind) -> ModelCache:
    """A cache over the store of *kind*, reached through *proxy*."""
    from registry_wsgi.stores.bucket import ObjectStore

    config: dict[str, Any] = kind.endpoint.config | {"endpoint": proxy.url}
    url = f"s3://{kind.endpoint.bucket}/{kind.client.prefix}"
    return ModelCache(ObjectStore.from_url(url, **config), clock=kind.clock)


@pytest.mark.parametrize("answer", ["md5", "501"])
def test_a_store_that_refuses_deletes_of_many_is_asked_one_by_one(
    kind: S3Kind, proxy: Proxy, answer: str
) -> None:
    """Some want Content-MD5, some have no such request: a delete, a restore, a prune go through."""
    proxy.plan = lambda method, path: answer if method == "POST" and "delete" in path else None
    kind.put(KEY, b"weights")
    for number in range(3):
        kind.put_blob(blob(b"%d" % number), b"nobody's")
    cache = cache_through(proxy, kind)
    assert cache.store.sets_aside == (answer == "md5" and isinstance(kind, VersionedKind))
    assert cache.unlink("smol")
    assert cache.restore("smol")
    kind.clock.move(days=8)
    assert cache.prune().held_blobs == 3
    kind.clock.move(days=2)
    assert cache.prune().blobs == 3
    assert cache.verify(deep=True).ok
    assert sorted(kind.another().blobs()) == sorted([blob(b"weights"), blob(b"{}")])
    assert [*kind.another().condemned()] == []
    refused = sum(method == "POST" for method, _ in proxy.requests)
    assert refused < 12, "asked again and again"


@pytest.fixture
def plain(tmp_path: Path) -> S3Kind:
    """An empty store behind S3 with deletes on a condition, in a bucket without versions."""
    return ConditionalKind(tmp_path, Clock())


def written_late(monkeypatch: pytest.MonkeyPatch, key: str, write: Callable[[], None]) -> None:
    """Have another program write at *key* in the moment before the object there is deleted."""

    def late(bucket: Any, metas: Any) -> Any:
        if any(meta.key == key for meta in metas):
            write()
        return delete(bucket, metas)

    delete = inside.replace_method(monkeypatch, "requests", "delete_unchanged", late)


def test_a_blob_uploaded_anew_just_before_its_removal_stays(
    plain: S3Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store deletes on a condition, what came after the last look is not deleted."""
    plain.put(KEY, b"weights")
    plain.put_blob(AA, b"old")
    plain.put_blob(BB, b"old")
    plain.clock.move(days=8)
    cache = ModelCache(plain.another(), clock=plain.clock)
    assert cache.prune().held_blobs == 2
    plain.clock.move(days=2)
    written_late(monkeypatch, f"blobs/{AA}", lambda: plain.put_blob(AA, b"new"))
    assert cache.prune().blobs == 1
    assert content(plain.another(), AA) == b"new"
    assert [*plain.another().condemned()] == []


def test_a_manifest_written_just_before_the_end_of_a_delete_stays(
    plain: S3Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deleted is in the trash, and what a pull has put there meanwhile is listed."""
    old = plain.put(KEY, b"old")
    new = manifest(b"new", config=b"{}")
    written_late(monkeypatch, f"manifests/{KEY}", lambda: plain.put_manifest(KEY, new))
    store = plain.another()
    assert ModelCache(store).unlink("smol")
    [entry] = store.deleted()
    deleted, listed = store.read_deleted(entry), store.read(KEY)
    assert deleted is not None
    assert listed is not None
    assert (deleted.data, listed.data) == (old, new)


def test_a_store_that_ignores_the_condition_of_a_delete_works_without(plain: S3Kind) -> None:
    """It is asked once, and what it says is heeded: all else is as before."""
    with proxied(plain.endpoint.url) as proxy:
        proxy.plan = lambda method, path: "blind" if method == "DELETE" else None
        plain.put(KEY, b"weights")
        plain.put_blob(AA, b"nobody's")
        cache = cache_through(proxy, plain)
        assert cache.unlink("smol")
        assert cache.restore("smol")
        assert cache.prune(age=0).blobs == 1
        assert cache.verify(deep=True).ok
        assert (
            sum(method == "DELETE" and "upload" not in path for method, path in proxy.requests) == 1
        )
    assert sorted(plain.another().blobs()) == sorted([blob(b"weights"), blob(b"{}")])


def test_blobs_stay_where_versioning_is_switched_off_while_they_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete that was to hide them would be for good by then: the run ends with an error."""
    kind = VersionedKind(tmp_path, Clock())
    kind.put_blob("sha256-aa", b"nobody's")
    store = kind.another()
    client = inside.botocore_of(store)
    answers = itertools.chain(["Enabled"] * 2, itertools.repeat("Suspended"))
    switched = SimpleNamespace(
        get_paginator=client.get_paginator,
        delete_object=client.delete_object,
        delete_objects=client.delete_objects,
        create_multipart_upload=client.create_multipart_upload,
        abort_multipart_upload=client.abort_multipart_upload,
        get_bucket_versioning=lambda **_: {"Status": next(answers)},
    )
    inside.ask_through(store, switched)
    assert [*store.condemned()] == []
    with pytest.raises(StoreError, match="versioning was switched off"):
        list(store.condemn(["sha256-aa"], 1.0))
    assert content(kind.another(), "sha256-aa") == b"nobody's"
