"""What is set aside is marked in a bucket, and goes once the mark is old enough."""

from __future__ import annotations

import json
import time

import pytest

from kit.bucket_seam import Seam, caching
from kit.kinds import BucketKind
from kit.trees import blob, manifest
from kit.views import content, purge
from registry_wsgi import ModelCache

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"


def test_what_nothing_needs_is_marked_and_goes_after_the_hold(kind: BucketKind) -> None:
    """The first run marks it, those before the end of the hold leave it, a later one removes it."""
    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    before = kind.objects()
    kind.clock.move(days=8)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs, report.held_bytes) == (0, 1, 8)
    assert kind.objects() == sorted([*before, "condemned/sha256-aa"])
    kind.clock.move(hours=23)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs) == (0, 1)
    assert content(kind.store, "sha256-aa") == b"nobody's"
    kind.clock.move(hours=1)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs, report.bytes) == (1, 0, 8)
    before.remove("blobs/sha256-aa")
    assert kind.objects() == before


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
    kind.put("h/n/m/t", b"of another")  # in a store without models nothing goes
    kind.put_blob(blob(b"weights"), b"weights")
    kind.clock.move(days=8)
    assert caching(kind).prune().held_blobs == 1
    kind.put_manifest(OTHER, manifest(b"weights", config=b"weights"))
    kind.clock.move(days=8)
    caching(kind).prune()
    assert list(kind.store.condemned()) == []
    assert content(kind.store, blob(b"weights")) == b"weights"


@pytest.mark.parametrize("reading", [1, 2])
def test_a_model_written_while_a_run_removes_keeps_its_blobs(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch, reading: int
) -> None:
    """The manifests are read once more before anything goes: what came meanwhile is kept."""
    bucket.put("h/n/m/t", b"of another")  # in a store without models nothing goes
    bucket.put_blob(blob(b"weights"), b"weights")
    bucket.clock.move(days=8)
    caching(bucket).prune()
    bucket.clock.move(days=2)
    cache = caching(bucket)
    listed = 0

    def hook(name: str, key: str, mode: object) -> None:
        nonlocal listed
        listed += name == "list" and key == "manifests"
        if listed == reading:
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
    before = kind.objects()
    kind.put_blob("sha256-aa", b"nobody's")
    report = caching(kind).prune(age=0)
    assert (report.blobs, report.held_blobs) == (1, 0)
    assert kind.objects() == before


@pytest.mark.parametrize("age", [None, 0])
def test_a_dry_run_says_what_a_run_does(bucket: BucketKind, age: int | None) -> None:
    """It reports the same, before the mark, in the hold and after it, and writes nothing."""
    bucket.put(KEY, b"weights")
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.put_blob("sha256-bb", b"nobody's either")
    caching(bucket).unlink("smol")
    for _ in range(3):
        bucket.clock.move(days=8)
        before = bucket.objects()
        planned = caching(bucket).prune(age=age, dry_run=True)
        assert bucket.objects() == before
        done = caching(bucket).prune(age=age)
        assert (planned.models, planned.reasons, planned.held_blobs, planned.held_until) == (
            (done.models, done.reasons, done.held_blobs, done.held_until)
        )
    assert bucket.objects() == []


def test_a_mark_of_a_blob_that_is_gone_is_removed(bucket: BucketKind) -> None:
    """Another program removed the blob: the mark goes with the next run that is late enough."""
    bucket.put_blob("sha256-aa", b"nobody's")
    bucket.clock.move(days=8)
    caching(bucket).prune()
    bucket.sweep_blob("sha256-aa")
    bucket.clock.move(days=30)
    caching(bucket).prune()
    assert bucket.objects() == []


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


def test_a_marker_says_which_blob_it_means(bucket: BucketKind) -> None:
    """Who looks into the bucket finds the run, and the size, ETag and time of the blob."""
    bucket.put_blob("sha256-aa", b"nobody's")
    [aside] = bucket.store.condemn(["sha256-aa"], 1_700_000_000.0)
    marker = json.loads(bytes(bucket.client.get("condemned/sha256-aa").bytes()))
    assert marker["id"] == aside.id
    assert marker["id"].startswith("2023-11-14T22-13-20.000000Z-")
    assert marker["means"][1] == 8
