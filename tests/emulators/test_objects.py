"""What is particular to a store in a bucket, where nothing can be renamed."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import azurite, s3
from kit.bucket_seam import Seam, caching
from kit.clocks import Clock
from kit.effort import Effort
from kit.faults import Killed
from kit.kinds import KINDS, AzureKind, BucketKind
from kit.requirements import require
from kit.trees import blob, manifest
from kit.views import content, purge, state
from registry_wsgi import ModelCache
from registry_wsgi.errors import InvalidManifestError, ModelExistsError, StoreError
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Deleted

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"


@pytest.fixture(params=["bucket", "s3", "azure"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> BucketKind:
    """An empty store in a bucket: in memory, behind S3, and in Azure."""
    kind = KINDS[request.param](tmp_path, Clock())
    assert isinstance(kind, BucketKind)
    return kind


@pytest.fixture
def bucket(tmp_path: Path) -> BucketKind:
    """An empty store in a bucket in memory."""
    return BucketKind(tmp_path, Clock())


def keys(kind: BucketKind) -> list[str]:
    """All that is in the bucket, but for the indices, which are only caches."""
    found = (meta["path"] for page in kind.client.list() for meta in page)
    return sorted(key for key in found if not key.startswith("index/"))


# What is set aside


def test_what_nothing_needs_is_marked_and_goes_after_the_hold(kind: BucketKind) -> None:
    """The first run marks it, those before the end of the hold leave it, a later one removes it."""
    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    before = keys(kind)
    kind.clock.move(days=8)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs, report.held_bytes) == (0, 1, 8)
    assert keys(kind) == sorted([*before, "condemned/sha256-aa"])
    kind.clock.move(hours=23)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs) == (0, 1)
    assert content(kind.store, "sha256-aa") == b"nobody's"
    kind.clock.move(hours=1)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs, report.bytes) == (1, 0, 8)
    before.remove("blobs/sha256-aa")
    assert keys(kind) == before


def test_with_no_hold_a_blob_goes_in_the_run_after_its_mark(bucket: BucketKind) -> None:
    """However short the hold, no run removes what it has marked itself."""
    cache = ModelCache(bucket.store, hold=0, clock=bucket.clock)
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.clock.move(days=8)
    assert cache.prune().held_blobs == 1
    bucket.clock.move(seconds=1)
    assert cache.prune().blobs == 1


def test_what_is_needed_again_loses_its_mark(kind: BucketKind) -> None:
    """A model that came after the mark keeps its blobs, however late the next run is."""
    kind.put_blob(blob(b"weights"), b"weights")
    kind.clock.move(days=8)
    assert caching(kind).prune().held_blobs == 1
    kind.put_manifest(OTHER, manifest(b"weights", config=b"weights"))
    kind.clock.move(days=8)
    caching(kind).prune()
    assert list(kind.store.condemned()) == []
    assert content(kind.store, blob(b"weights")) == b"weights"


def test_a_model_written_while_a_run_removes_keeps_its_blobs(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifests are read once more before anything goes: what came meanwhile is kept."""
    bucket.put_blob(blob(b"weights"), b"weights")
    bucket.clock.move(days=8)
    caching(bucket).prune()
    bucket.clock.move(days=2)
    cache = caching(bucket)

    def hook(name: str, key: str, mode: object) -> None:
        # The probe is written after the first mark and before the second.
        if name == "put" and key.startswith("probe/"):
            seam.active = False
            client.put(f"manifests/{KEY}", data)

    data = manifest(b"weights", config=b"weights")
    client = bucket.client
    seam = Seam(monkeypatch, hook)
    cache.prune()
    assert not seam.active
    assert content(bucket.store, blob(b"weights")) == b"weights"
    assert list(bucket.store.condemned()) == []


def test_while_a_pull_is_under_way_nothing_marked_goes(bucket: BucketKind) -> None:
    """A pull still finds what is marked, so that it is kept however long the hold is over."""
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.clock.move(days=8)
    caching(bucket).prune()
    bucket.put_blob("sha256-bb", b"just pulled")
    bucket.clock.move(days=30)
    pulling = ModelCache(bucket.store, in_flight="60d", clock=bucket.clock)
    assert pulling.prune(dry_run=True).held_blobs == 2
    assert pulling.prune().blobs == 0
    assert content(bucket.store, "sha256-aa") == b"nobody's"
    assert caching(bucket).prune().blobs == 1


def test_at_age_0_a_blob_goes_at_once(kind: BucketKind) -> None:
    """A store that is said to be quiet is cleaned in one run."""
    kind.put(KEY, b"weights")
    before = keys(kind)
    kind.put_blob("sha256-aa", b"nobody's")
    report = caching(kind).prune(age=0)
    assert (report.blobs, report.held_blobs) == (1, 0)
    assert keys(kind) == before


@pytest.mark.parametrize("age", [None, 0])
def test_a_dry_run_says_what_a_run_does(bucket: BucketKind, age: int | None) -> None:
    """It reports the same, before the mark, in the hold and after it, and writes nothing."""
    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.put_blob("sha256-bb", b"nobody's either")
    caching(bucket).unlink("smol")
    for _ in range(3):
        bucket.clock.move(days=8)
        before = keys(bucket)
        planned = caching(bucket).prune(age=age, dry_run=True)
        assert keys(bucket) == before
        done = caching(bucket).prune(age=age)
        assert (planned.models, planned.reasons, planned.held_blobs, planned.held_until) == (
            (done.models, done.reasons, done.held_blobs, done.held_until)
        )
    assert keys(bucket) == []


def test_a_mark_of_a_blob_that_is_gone_is_removed(bucket: BucketKind) -> None:
    """Another program removed the blob: the mark goes with the next run that is late enough."""
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.clock.move(days=8)
    caching(bucket).prune()
    bucket.sweep_blob("sha256-aa")
    bucket.clock.move(days=30)
    caching(bucket).prune()
    assert keys(bucket) == []


def test_a_mark_that_cannot_be_read_removes_nothing(
    bucket: BucketKind, caplog: pytest.LogCaptureFixture
) -> None:
    """Its blob stays, and the log names it."""
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.client.put("condemned/sha256-aa", b"{")
    bucket.clock.move(days=8)
    assert caching(bucket).prune(age=0).blobs == 0
    assert content(bucket.store, "sha256-aa") == b"nobody's"
    assert '"condemned/sha256-aa": not a mark' in caplog.text


def test_a_blob_is_only_removed_if_it_is_the_one_that_was_marked(kind: BucketKind) -> None:
    """A blob written anew since its mark, with the same size, stays."""
    kind.put_blob("sha256-aa", b"old")
    [aside] = kind.store.condemn(["sha256-aa"], time.time())
    kind.put_blob("sha256-aa", b"new")
    purge(kind.store, aside)
    assert content(kind.store, "sha256-aa") == b"new"


class Run:
    """
    A prune in a thread of its own, which goes on only when it is told to, request by request.

    Args:
        cache: What is pruned.
    """

    def __init__(self, cache: ModelCache) -> None:
        self.requests = 0
        self.done = False
        self._limit = 0.0
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._cache = cache
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hook(self, *_: object) -> bool:
        """Stand before a request; whether it is one of this run."""
        if threading.current_thread() is not self._thread:
            return False
        while self.requests >= self._limit:
            self._back.release()
            self._go.acquire()
        self.requests += 1
        return True

    def advance(self, limit: float = math.inf) -> None:
        """Go on until so many requests were made."""
        if not self.done and limit > self.requests:
            self._limit = limit
            self._go.release()
            assert self._back.acquire(timeout=30)

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._cache.prune()
        finally:
            self.done = True
            self._back.release()


def keep_meets_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, begin: int, at: int, end: int
) -> tuple[bool, int, int]:
    """
    Keep a blob that a run is about to remove, with the run going on in the midst of it.

    Args:
        begin: How many requests the run has made before.
        at: Before which request of `keep` the run goes on.
        end: How many it has made then; the rest follow when the manifest is written.

    Returns:
        Whether the blob is there in the end, and how many requests each of the two took.
    """
    kind = BucketKind(path, Clock())
    kind.put_blob(blob(b"weights"), b"weights")
    kind.clock.move(days=8)
    caching(kind).prune()
    kind.clock.move(days=2)
    puller = kind.another()
    cache = caching(kind)
    requests = 0

    def hook(*_: object) -> None:
        nonlocal requests
        if not run.hook():
            requests += 1
            if requests == at:
                run.advance(end)

    with monkeypatch.context() as patch:
        run = Run(cache)
        Seam(patch, hook)
        run.advance(begin)
        try:
            gone = puller.keep([blob(b"weights")], wait=0)
        except StoreError:  # it is just being removed: once more, then
            run.advance()
            gone = puller.keep([blob(b"weights")], wait=0)
        taken = requests
        for name in gone:
            kind.put_blob(name, b"weights")
        kind.put_manifest(KEY, manifest(b"weights", config=b"weights"))
        run.advance()
        assert run.done
    return content(kind.store, blob(b"weights")) == b"weights", taken, run.requests


def test_a_run_in_the_midst_of_keeping_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effort: Effort
) -> None:
    """Whatever a run has done before, and does between two requests of it: the blob is there."""
    never = 1_000
    _, requests, _ = keep_meets_run(tmp_path, monkeypatch, 0, never, 0)
    _, _, steps = keep_meets_run(tmp_path, monkeypatch, never, never, 0)
    assert requests >= 4
    assert steps > 20
    spans = itertools.combinations_with_replacement(range(steps + 1), 2)
    moments = ((begin, at, end) for begin, end in spans for at in range(1, requests + 1))
    for moment in effort.choose(moments, 200):
        assert keep_meets_run(tmp_path, monkeypatch, *moment)[0], moment


def test_who_keeps_its_blobs_is_told_which_are_gone(kind: BucketKind) -> None:
    """The marks go, whoever made them; blobs that were not marked stay as they are."""
    for name in ("sha256-aa", "sha256-bb", "sha256-cc"):
        kind.put_blob(name, b"x")
    assert len(list(kind.store.condemn(["sha256-aa", "sha256-cc"], 1.0))) == 2
    kind.sweep_blob("sha256-cc")
    names = ["sha256-aa", "sha256-bb", "sha256-cc", "sha256-dd"]
    assert kind.another().keep(names) == ["sha256-cc", "sha256-dd"]
    assert list(kind.store.condemned()) == []
    assert {*kind.store.blobs()} == {"sha256-aa", "sha256-bb"}


def test_a_mark_that_never_stays_the_same_is_told(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries it is an error that names it; the blob is not said to be kept."""
    bucket.put_blob("sha256-aa", b"x")
    store = bucket.another()
    assert len([*store.condemn(["sha256-aa"], 1.0)]) == 1
    number = 0

    def hook(name: str, key: str, mode: object) -> None:
        nonlocal number
        if name == "get" and key == "condemned/sha256-aa":
            number += 1
            bucket.client.put(key, b"another %d" % number)

    Seam(monkeypatch, hook)
    with pytest.raises(StoreError, match="condemned/sha256-aa: is changed again and again"):
        store.keep(["sha256-aa"])
    assert 2 < number < 30


def pull_meets_run(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    then: int,
    *,
    marked: bool,
    last: Sequence[str],
) -> tuple[bool, int]:
    """
    Have a pull, which found a blob before a run began, take its last two steps in the midst of it.

    Args:
        at: Before which request of the run it takes the first.
        then: Before which it takes the second.
        marked: Whether an earlier run has marked the blob.
        last: What they are: to write the manifest, and to see to its blobs.

    Returns:
        Whether the blob is there in the end, and how many requests the run took.
    """
    kind = BucketKind(path, Clock())
    kind.put_blob(blob(b"weights"), b"weights")
    kind.clock.move(days=8)
    if marked:
        caching(kind).prune()
        kind.clock.move(days=2)
    puller = kind.another()
    requests = 0
    steps = [*zip((at, then), last, strict=False)]

    def take(step: str) -> None:
        if step == "write":
            kind.put_manifest(KEY, manifest(b"weights", config=b"weights"))
        else:
            for name in puller.keep([blob(b"weights")], wait=0):
                kind.put_blob(name, b"weights")

    def hook(*_: object) -> None:
        nonlocal requests
        requests += 1
        seam.active = False
        with suppress(StoreError):  # it is just being removed
            while steps and steps[0][0] < requests:
                take(steps[0][1])
                del steps[0]
        seam.active = True

    cache = caching(kind)
    with monkeypatch.context() as patch:
        seam = Seam(patch, hook)
        cache.prune(age=None if marked else 0)
    for _, step in steps:
        take(step)
    return content(kind.store, blob(b"weights")) == b"weights", requests


@pytest.mark.parametrize(
    ("last", "marked", "whole"),
    [
        (("keep", "write"), True, True),
        (("write", "keep"), True, True),
        (("write", "keep"), False, True),
        (("write",), True, False),
        (("write",), False, False),
    ],
)
def test_who_keeps_its_blobs_loses_none_to_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: Sequence[str],
    marked: bool,
    whole: bool,
) -> None:
    """Whenever the last steps of a pull come, its blob is there; if it does not keep it, not so."""

    def meet(at: int, then: int) -> tuple[bool, int]:
        return pull_meets_run(tmp_path, monkeypatch, at, then, marked=marked, last=last)

    _, requests = meet(1_000, 1_000)
    assert requests > 20
    moments = itertools.combinations_with_replacement(range(requests + 1), 2)
    broken = [pair for pair in moments if not meet(*pair)[0]]
    assert bool(broken) is not whole, broken


# Killed


def _delete(kind: BucketKind) -> None:
    kind.another().discard(KEY, (), time.time())


def _restore(kind: BucketKind) -> None:
    store = kind.another()
    for entry in store.deleted():
        store.recover(entry)


def _forget(kind: BucketKind) -> None:
    store = kind.another()
    for entry in store.deleted():
        store.forget(entry)


def _purge(kind: BucketKind) -> None:
    store = kind.another()
    for aside in [*store.condemn(["sha256-aa"], time.time()), *store.condemned()]:
        purge(store, aside)


def _pardon(kind: BucketKind) -> None:
    store = kind.another()
    for aside in [*store.condemn(["sha256-aa"], time.time()), *store.condemned()]:
        store.pardon(aside)


def _everything(kind: BucketKind) -> None:
    ModelCache(kind.another(), retention=0).prune(age=0, all=True)


@pytest.mark.parametrize("broken", [Killed, StoreError], ids=["killed", "failed"])
@pytest.mark.parametrize("step", [_delete, _restore, _forget, _purge, _pardon, _everything])
@pytest.mark.parametrize("deleted", [False, True])
def test_whatever_step_is_the_last_nothing_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[[BucketKind], None],
    broken: type[BaseException],
    deleted: bool,
) -> None:
    """Killed before any request, or failing there: no half things, and the next run heals it."""
    done = False
    at = 0
    while not done:
        kind = BucketKind(tmp_path, Clock())
        kind.let_nobody_wait()
        data = kind.put(KEY, b"weights")
        kind.put_blob("sha256-aa", b"nobody's")
        if deleted:
            caching(kind).unlink("smol")
        count = 0

        def hook(name: str, key: str, mode: object) -> None:
            nonlocal count
            count += 1
            if count > at:  # noqa: B023
                raise broken(name, key)

        with monkeypatch.context() as patch:
            Seam(patch, hook)
            try:
                step(kind)
                done = True
            except broken:
                pass
        store = kind.another()
        now = state(store)
        copies = [*now["manifests"].values(), *now["deleted"].values()]
        if step not in (_forget, _everything):
            assert data in copies
        assert {*copies} <= {data}
        if copies:
            assert {f"blobs/{blob(b'weights')}", f"blobs/{blob(b'{}')}"} <= {*keys(kind)}
        # Listed and deleted alike are what they were once the leftovers are gone.
        store.tidy(math.inf)
        assert state(store) == now
        allowed = [f"manifests/{key}" for key in now["manifests"]]
        allowed += [f"trash/{e.id}/manifests/{e.key}" for e in now["deleted"]]
        allowed += [f"condemned/{aside.name}" for aside in now["condemned"]]
        rest = [k for k in keys(kind) if not k.startswith(("blobs/", "probe/"))]
        assert sorted(rest) == sorted(allowed)
        ModelCache(store).prune(age=0)
        ModelCache(store).prune(age=0, all=True)
        assert [k for k in keys(kind) if not k.startswith("probe/")] == []
        at += 1
    assert at > 3 or (not deleted and step in (_restore, _forget))


# Between the requests of one step


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
    assert [key for key in keys(bucket) if not key.startswith("probe")] == []


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

    from registry_wsgi.stores.bucket import requests as module

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

    monkeypatch.setattr(module, "obstore", Lossy())
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

    from registry_wsgi.stores.bucket import requests as module

    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")
    before = keys(bucket)

    class Blind:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def put(self, *rest: Any, mode: Any, **options: Any) -> Any:
            ignored = (mode == "create") == (blind == "create")
            return obstore.put(*rest, mode=None if ignored else mode, **options)

    monkeypatch.setattr(module, "obstore", Blind())
    for step in (
        lambda: ModelCache(bucket.another()).unlink("smol"),
        lambda: ModelCache(bucket.another()).prune(age=0),
    ):
        with pytest.raises(StoreError, match="does not keep to the conditions of a write"):
            step()
    assert keys(bucket) == before


def test_a_bucket_with_versioning_works_or_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Its old versions are looked after; a store that cannot do it there says so."""
    require("boto3", "obstore")
    import boto3

    from registry_wsgi.stores.bucket import ObjectStore

    endpoint = s3.endpoint()
    name = f"registry-wsgi-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id=endpoint.key,
        aws_secret_access_key=endpoint.secret,
    )
    client.create_bucket(Bucket=name)
    try:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.put_object(Bucket=name, Key=f"manifests/{KEY}", Body=b'{"layers": []}')
        config: dict[str, Any] = endpoint.config
        cache = ModelCache(ObjectStore.from_url(f"s3://{name}", **config))
        try:
            assert cache.unlink("smol") is True
        except StoreError as error:
            assert "some do not where versioning is on" in str(error)
            assert [str(model) for model in cache.models()] == [
                "registry.ollama.ai/library/smol:latest"
            ]
        else:
            assert cache.store.sets_aside
            assert "keeps old versions" not in caplog.text  # as of those that nobody removes
            assert cache.restore("smol")
    finally:
        found = client.list_object_versions(Bucket=name)
        for version in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
            client.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
        client.delete_bucket(Bucket=name)
        client.close()


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

    from registry_wsgi.stores.bucket import requests as module

    class Numbering:
        def __getattr__(self, name: str) -> Any:
            return getattr(obstore, name)

        def head(self, store: Any, path: str) -> Any:
            return obstore.head(store, path) | {"version": "1"}

        def put(self, *rest: Any, mode: Any, **options: Any) -> Any:
            mode = mode if mode == "create" else {"e_tag": mode["e_tag"]}
            return obstore.put(*rest, mode=mode, **options)

    store = bucket.another()
    gcs = module.Bucket(GCSStore("models", skip_signature=True), "gcs")
    assert (gcs.numbers, store._bucket.numbers) == (True, False)
    store._bucket.numbers = numbers
    bucket.put(KEY, b"weights")
    monkeypatch.setattr(module, "obstore", Numbering())
    assert ModelCache(store).unlink("smol")
    assert ("keeps old versions" in caplog.text) is not numbers


# Times


@pytest.mark.parametrize("minutes", [-6, 6])
def test_clocks_that_differ_stop_the_sweep(bucket: BucketKind, minutes: int) -> None:
    """With more than five minutes between them nothing is removed, and the error has both times."""
    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")
    before = keys(bucket)
    shift = timedelta(minutes=minutes).total_seconds()
    bucket.store_clock = lambda: time.time() + shift
    with pytest.raises(StoreError, match=r"the clock here says .* UTC, and that of the store .*"):
        ModelCache(bucket.another(), retention=0).prune()
    with pytest.raises(StoreError, match="the clock here says"):
        ModelCache(bucket.another()).unlink("smol")
    assert keys(bucket) == before


# What else lies there


def test_a_manifest_too_large_to_be_one_stops_the_sweep_and_can_be_deleted(
    kind: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read into memory; the error names it, and a delete is the way out."""
    kind.put(KEY, b"weights")
    data = bytes((16 << 20) + 1)
    kind.put_manifest(OTHER, data)
    with pytest.raises(InvalidManifestError, match=f"manifests/{OTHER}: not a manifest: bucket/"):
        caching(kind).prune(age=0)
    with monkeypatch.context() as patch:
        seam = Seam(patch, lambda *_: None)
        assert ModelCache(kind.store).unlink("example.com/ns/other:v1") is True
    # A copy in Azure may be under way when the request has ended, and then fail.
    assert ("copy" in dict(seam.requests)) is not isinstance(kind, AzureKind)
    [entry] = kind.store.deleted()
    copy = kind.client.get(f"trash/{entry.id}/manifests/{OTHER}")
    assert bytes(copy.bytes()) == data
    with pytest.raises(InvalidManifestError):
        kind.store.read_deleted(entry)
    assert ModelCache(kind.store).prune(age=0).models == 1


def test_a_newer_layout_stops_the_sweep(bucket: BucketKind) -> None:
    """Models that are not understood may need any blob."""
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.client.put("manifests-v2/x", b"{}")
    with pytest.raises(StoreError, match="manifests-v2"):
        caching(bucket).prune(age=0)
    assert content(bucket.store, "sha256-aa") == b"nobody's"


def test_other_objects_are_left_alone(bucket: BucketKind) -> None:
    """What is no model, blob or entry of ours is neither listed nor removed."""
    others = [
        *("README", "manifests/x", "manifests/h/n/m", "manifests/h/n/m/t/x", "blobs/a/b"),
        *("trash/x", "trash/note/manifests/h/n/m/t", "probe/x", "condemned/a/b"),
    ]
    for key in others:
        bucket.client.put(key, b"x")
    bucket.clock.move(days=100)
    caching(bucket).prune(age=0, all=True)
    assert keys(bucket) == sorted(others)
    assert state(bucket.store)["blobs"] == {}
    assert state(bucket.store)["manifests"] == {}


def test_what_is_left_of_a_look_at_the_store_goes(bucket: BucketKind) -> None:
    """A process that was killed in it leaves an object, which a later run removes."""
    bucket.client.put("probe/2026-01-31T12-00-00.000000Z-1f0e7c5a", b"1")
    ModelCache(bucket.another()).prune(age=0)
    assert len(keys(bucket)) == 1
    bucket.tune(probe_age=-1)
    ModelCache(bucket.another()).prune(age=0)
    assert keys(bucket) == []


@pytest.mark.parametrize("name", ["a b", "a%20b", "t~#x", "q?*", "a+b&c", "b\\c", "{x}", "ä"])
def test_odd_names_are_taken_as_they_are(kind: BucketKind, name: str) -> None:
    """Whatever a download leaves among the blobs is listed, looked at and removed."""
    if isinstance(kind, AzureKind) and "\\" in name:
        pytest.skip("Azure takes it for a slash")
    kind.put_blob(name, b"x")
    assert list(kind.store.blobs()) == [name]
    report = ModelCache(kind.store).prune(age=0)
    assert (report.blobs, keys(kind)) == (1, [])


def test_what_is_gone_hides_nothing_of_a_delete_of_many(kind: BucketKind) -> None:
    """All others go, and none is under way when it has ended; one that cannot go is an error."""
    from concurrent.futures import ThreadPoolExecutor

    bucket = kind.another()._bucket
    names = [f"sha256-{number:04}" for number in range(700)]
    with ThreadPoolExecutor(16 if kind.threads else 1) as pool:
        list(pool.map(lambda name: kind.put_blob(name, b"x"), names))
    absent = ["blobs/absent", "blobs/sha256-0350x", "blobs/zz"]
    bucket.delete(absent[0], *(f"blobs/{name}" for name in names), *absent[1:])
    assert keys(kind) == []
    if isinstance(kind, AzureKind):
        kind.put_blob("leased", b"x")
        path = f"/{kind.client.prefix}/blobs/leased"
        lease = {"x_ms_lease_action": "acquire", "x_ms_lease_duration": "15"}
        azurite.account().put(path, "comp=lease", **lease)
        with pytest.raises(StoreError, match=r"^bucket/blobs/leased: the store answers 412"):
            bucket.delete("blobs/absent", "blobs/leased")


@pytest.mark.parametrize("where", ["s3", "azure"])
def test_a_bucket_that_is_gone_is_no_empty_bucket(where: str) -> None:
    """Objects cannot be read, written or removed there, and do not count as absent."""
    require("obstore")
    from registry_wsgi.stores.bucket.requests import Bucket, Meta

    place: Any = (
        replace(s3.endpoint(), bucket="no-such-bucket")
        if where == "s3"
        else replace(azurite.account(), container="no-such-container")
    )
    bucket = Bucket(place.client("x"), "bucket")
    steps: list[Callable[[], object]] = [
        lambda: bucket.get("key"),
        lambda: bucket.open("key"),
        lambda: bucket.create("key", b"x"),
        lambda: bucket.replace(Meta("key", 1, 1, "0", None), b"x"),
        lambda: bucket.delete("key"),
        lambda: bucket.folder("manifests"),
        lambda: list(bucket.objects("manifests")),
    ]
    for step in steps:
        with pytest.raises(StoreError, match=r"^bucket/.*: there is no such (bucket|container) "):
            step()


@pytest.mark.parametrize("allowed", ["rwdl", "rwl"])
def test_the_permissions_that_are_documented_are_enough(tmp_path: Path, allowed: str) -> None:
    """With them a token does all there is to do, and without the last the error says so."""
    kind = KINDS["azure"](tmp_path, Clock())
    assert isinstance(kind, AzureKind)
    from obstore.store import AzureStore

    from registry_wsgi.stores.bucket import ObjectStore

    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    account = azurite.account()
    config: dict[str, Any] = {"endpoint": account.url, "account_name": account.name}
    config |= {"sas_token": account.sas(allowed), "client_options": {"allow_http": True}}
    client = AzureStore(account.container, prefix=kind.client.prefix, **config)
    cache = ModelCache(ObjectStore(client, name="bucket"))
    if "d" not in allowed:
        with pytest.raises(StoreError, match=r"/sha256-aa: these credentials may not do this"):
            cache.prune(age=0)
        return
    assert cache.unlink("smol")
    assert cache.restore("smol")
    assert cache.prune(age=0).blobs == 1
    cache.protect("smol")
    assert cache.verify(deep=True).ok


def test_a_host_with_a_port_is_a_host(kind: BucketKind) -> None:
    """A model of a registry at a port is deleted and restored as others are."""
    kind.put("localhost:5000/ns/m/v1", b"weights")
    cache = ModelCache(kind.store)
    assert cache.unlink("localhost:5000/ns/m:v1") is True
    assert cache.restore("localhost:5000/ns/m:v1") == "localhost:5000/ns/m:v1"
    assert cache.verify().ok


def test_listings_of_many_pages_are_whole(kind: BucketKind) -> None:
    """More than a page or two of blobs are all listed, once each."""
    from concurrent.futures import ThreadPoolExecutor

    count = 5_100 if isinstance(kind, AzureKind) else 2_100  # a page there has 5,000
    names = {f"sha256-{number:04}" for number in range(count)}
    with ThreadPoolExecutor(16 if kind.threads else 1) as pool:
        list(pool.map(lambda name: kind.put_blob(name, b"x"), names))
    found = list(kind.store.blobs())
    assert len(found) == count
    assert {*found} == names


def test_a_process_that_was_forked_is_told_so() -> None:
    """It would wait for ever: the error says what to do, and the parent goes on."""
    require("obstore")
    script = (
        "import os\n"
        "from obstore.store import MemoryStore\n"
        "from registry_wsgi.stores.bucket import ObjectStore\n"
        "store = ObjectStore(MemoryStore(), name='bucket')\n"
        "if os.fork() == 0:\n"
        "    try: dict(store.versions())\n"
        "    except Exception as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(list(dict(store.versions())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    said, listed = done.stdout.splitlines()
    assert "without --preload" in said
    assert listed == "[]"


# The index


def reads(seam: Seam, folder: str = "manifests") -> list[str]:
    """Which objects of a folder were read."""
    return [key for name, key in seam.requests if name == "get" and key.startswith(f"{folder}/")]


def test_only_what_has_changed_is_read_again(
    kind: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run, manifests in place and in the trash are known until they change."""
    for number in range(4):
        kind.put(f"h/n/m{number}/t", b"weights %d" % number)
    for number in (2, 3):
        assert caching(kind).unlink(f"h/n/m{number}:t")
    caching(kind).prune()
    seam = Seam(monkeypatch, lambda *_: None)
    caching(kind).prune()
    assert not reads(seam) + reads(seam, "trash")
    assert [model.name for model in caching(kind).models()] == ["h/n/m0:t", "h/n/m1:t"]
    assert len(caching(kind).deleted()) == 2
    assert not reads(seam) + reads(seam, "trash")
    kind.put("h/n/m1/t", b"weights 11")
    kind.put("h/n/m4/t", b"weights 4")
    kind.client.delete("manifests/h/n/m0/t")
    seam.requests.clear()
    caching(kind).prune()
    assert sorted(reads(seam)) == ["manifests/h/n/m1/t", "manifests/h/n/m4/t"]
    seam.requests.clear()
    caching(kind).prune()
    assert not reads(seam) + reads(seam, "trash")
    assert not [key for name, key in seam.requests if name == "put" and key.startswith("index/")]
    kind.client.delete("manifests/h/n/m1/t")
    caching(kind).prune()
    index = json.loads(gzip.decompress(bytes(kind.client.get("index/manifests").bytes())))
    assert [*index["objects"]] == ["manifests/h/n/m4/t"]


def test_an_unchanged_run_costs_pages_and_a_constant(
    kind: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many models there are, of the requests only the pages of the listings are more."""
    counts = []
    for number in range(40):
        kind.put(f"h/n/m{number}/t", b"weights %d" % number)
        if number in (1, 39):
            caching(kind).prune()
            with monkeypatch.context() as patch:
                seam = Seam(patch, lambda *_: None)
                caching(kind).prune()
                counts.append(len(seam.requests))  # here a listing is one, whatever its pages
    assert counts[0] == counts[1] <= 25


def test_what_is_held_costs_no_reads(kind: BucketKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its markers are known, a run that leaves or removes many blobs reads none of them."""
    kind.tune(few=3)  # of fewer, each is asked for
    for number in range(9):
        kind.put_blob(f"sha256-0{number}", b"nobody's")
    kind.clock.move(days=8)
    assert caching(kind).prune().held_blobs == 9
    assert caching(kind).prune().held_blobs == 9
    seam = Seam(monkeypatch, lambda *_: None)
    assert caching(kind).prune().held_blobs == 9
    assert not reads(seam, "condemned")
    kind.clock.move(days=1)
    assert caching(kind).prune().blobs == 9
    assert not reads(seam, "condemned")
    assert not [*kind.store.condemned()]


def test_a_marker_that_is_another_by_now_is_not_taken_for_what_it_was(kind: BucketKind) -> None:
    """A blob that another run has put back and marked anew is that run's."""
    kind.tune(few=3)
    names = [f"sha256-0{number}" for number in range(9)]
    for name in names:
        kind.put_blob(name, b"nobody's")
    assert len([*kind.another().condemn(names, time.time())]) == 9
    asides = [*kind.store.condemned()]
    assert kind.another().pardon(asides[4])
    [again] = kind.another().condemn([names[4]], time.time())
    rest = {*asides} - {asides[4]}
    assert {aside for aside, _ in kind.store.look_aside(asides)} == rest
    assert dict(kind.store.purge([(aside, math.inf) for aside in asides])) == dict.fromkeys(
        rest, True
    )
    assert [*kind.another().condemned()] == [again]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "no gzip": lambda data: b"no index",
    "cut off": lambda data: data[:-20],
    "changed": lambda data: data[:-10] + bytes([data[-10] ^ 1]) + data[-9:],
    "no JSON": lambda data: gzip.compress(b"{"),
    "another form": lambda data: gzip.compress(b'{"format": "2", "objects": {}}'),
    "a list": lambda data: gzip.compress(b"[]"),
    "no objects": lambda data: gzip.compress(gzip.decompress(data).split(b', "objects"')[0] + b"}"),
    "objects of another kind": lambda data: _rewritten(data, lambda entry: "text"),
    "empty entries": lambda data: _rewritten(data, lambda entry: []),
    "entries of another kind": lambda data: _rewritten(data, lambda entry: [*entry[:3], 7]),
    "another ETag": lambda data: _rewritten(
        data, lambda entry: ["0" * 32, *entry[1:3], _other(entry)]
    ),
    "another time": lambda data: _rewritten(data, lambda entry: [*entry[:2], 1, _other(entry)]),
    "another size": lambda data: _rewritten(data, lambda entry: [*entry[:3], _other(entry) + " "]),
}


def _rewritten(data: bytes, change: Callable[[Any], Any]) -> bytes:
    document = json.loads(gzip.decompress(data))
    document["objects"] = {key: change(entry) for key, entry in document["objects"].items()}
    return gzip.compress(json.dumps(document).encode())


def _other(entry: list[Any]) -> str:
    """A manifest as long as that of *entry* that needs other blobs."""
    return re.sub("[0-9a-f]{64}", lambda digits: digits[0][::-1], entry[3])


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_index_that_is_damaged_changes_nothing(bucket: BucketKind, damage: str) -> None:
    """All is read anew, no blob that is needed goes, and the index is whole again."""
    bucket.put(KEY, b"weights")
    bucket.put(OTHER, b"other")
    assert caching(bucket).unlink("example.com/ns/other:v1")
    bucket.put_blob("sha256-aa", b"nobody's")
    assert [*bucket.store.condemn(["sha256-aa"], time.time() + 20 * 86_400)]
    caching(bucket).prune()
    before = state(bucket.store)
    assert before["condemned"]
    indices = {f"index/{folder}" for folder in ("manifests", "trash", "condemned")}
    whole = {key: bytes(bucket.client.get(key).bytes()) for key in indices}
    for key, data in whole.items():
        bucket.client.put(key, DAMAGE[damage](data))
    caching(bucket).prune(age=timedelta(days=1))
    bucket.clock.move(days=3)
    assert caching(bucket).prune(age=timedelta(days=1), dry_run=True).models == 1
    caching(bucket).prune(age=timedelta(days=30))
    assert state(bucket.store) == before
    assert {key: bytes(bucket.client.get(key).bytes()) for key in indices} == whole


def test_an_index_that_is_gone_or_of_another_store_changes_nothing(bucket: BucketKind) -> None:
    """Also one that was copied along from where other models are."""
    bucket.put(KEY, b"weights")
    caching(bucket).prune()
    data = bytes(bucket.client.get("index/manifests").bytes())
    bucket.client.put(f"manifests/{KEY}", manifest(b"weights two", config=b"{}"))
    bucket.put_blob(blob(b"weights two"), b"weights two")
    bucket.clock.move(days=8)
    for index in (None, data):
        if index is None:
            bucket.client.delete("index/manifests")
        else:
            bucket.client.put("index/manifests", index)
        cache = caching(bucket)
        assert cache.verify().ok
        assert cache.prune().held_blobs == 1  # what only the former manifest needed
        assert [aside.name for aside in bucket.store.condemned()] == [blob(b"weights")]


def test_only_a_prune_writes_the_index(bucket: BucketKind) -> None:
    """A list, a check and a dry run write nothing."""
    bucket.put(KEY, b"weights")
    store = bucket.store
    cache = ModelCache(store)
    cache.models()
    cache.deleted()
    cache.verify()
    cache.prune(dry_run=True)
    assert not [meta for page in bucket.client.list("index") for meta in page]
    cache.prune()
    assert [meta for page in bucket.client.list("index") for meta in page]


def test_an_index_that_cannot_be_read_or_written_is_done_without(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that forbids it makes a run slower, and nothing else."""
    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")

    def forbid(name: str, key: str, mode: object) -> None:
        if key.startswith("index/"):
            raise PermissionError(key)

    Seam(monkeypatch, forbid)
    assert caching(bucket).prune(age=0).blobs == 1
    assert [model.name for model in caching(bucket).models()] == [
        "registry.ollama.ai/library/smol:latest"
    ]


def test_a_name_is_looked_up_by_the_case_of_ascii_letters_only(bucket: BucketKind) -> None:
    """A Kelvin sign is no k, though its lower case is: that manifest is no model of that name."""
    bucket.put_manifest("registry.ollama.ai/library/\u212a/latest", manifest())
    assert bucket.store.find(Name.parse("k")) is None
    bucket.put_manifest("registry.ollama.ai/library/K/latest", manifest())
    assert bucket.store.find(Name.parse("k")) == "registry.ollama.ai/library/K/latest"


# What it costs


def test_the_cost_of_a_delete_does_not_grow(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the first, which looks at what the store can do, a delete is eight requests."""
    store = bucket.store
    counts = []
    for number in range(40):
        bucket.put(f"h/n/m{number}/t", b"weights")
    seam = Seam(monkeypatch, lambda *_: None)
    for number in range(40):
        seam.requests.clear()
        assert ModelCache(store).unlink(f"h/n/m{number}:t")
        counts.append(len(seam.requests))
    assert counts[0] <= 25
    assert {*counts[1:]} == {9}


def test_a_restore_never_takes_a_model_for_its_own(bucket: BucketKind) -> None:
    """Another's manifest of the same bytes is another's."""
    bucket.put_manifest(KEY, b"{}")
    entry = bucket.store.discard(KEY, (), 1.0)
    assert entry is not None
    bucket.put_manifest(KEY, b"{}")
    with pytest.raises(ModelExistsError):
        bucket.store.recover(entry)
    assert bucket.store.deleted() == [entry]


def test_a_marker_says_which_blob_it_means(bucket: BucketKind) -> None:
    """Who looks into the bucket finds the run, and the size, ETag and time of the blob."""
    bucket.put_blob("sha256-aa", b"nobody's")
    [aside] = bucket.store.condemn(["sha256-aa"], 1_700_000_000.0)
    marker = json.loads(bytes(bucket.client.get("condemned/sha256-aa").bytes()))
    assert marker["id"] == aside.id
    assert marker["id"].startswith("2023-11-14T22-13-20.000000Z-")
    assert marker["means"][1] == 8
