"""What else lies in a bucket, how names are written, and what stops a sweep."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta

import pytest

from kit import azurite
from kit.bucket_seam import Seam, caching
from kit.kinds import AzureKind, BucketKind
from kit.requirements import require
from kit.trees import blob
from kit.views import content, state
from registry_wsgi import ModelCache
from registry_wsgi.errors import InvalidManifestError, StoreError

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"


@pytest.mark.parametrize("minutes", [-6, 6])
def test_clocks_that_differ_stop_the_sweep(bucket: BucketKind, minutes: int) -> None:
    """With more than five minutes between them nothing is removed, and the error has both times."""
    bucket.put(KEY, b"weights")
    bucket.put_blob(blob(b"nobody's"), b"nobody's")
    before = bucket.objects()
    shift = timedelta(minutes=minutes).total_seconds()
    bucket.store_clock = lambda: time.time() + shift
    with pytest.raises(StoreError, match=r"the clock here says .* UTC, and that of the store .*"):
        ModelCache(bucket.another(), retention=0).prune(age=0)
    with pytest.raises(StoreError, match="the clock here says"):
        ModelCache(bucket.another()).unlink("smol")
    assert bucket.objects() == before


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
    assert bucket.objects() == sorted(others)
    assert state(bucket.store)["blobs"] == {}
    assert state(bucket.store)["manifests"] == {}


def test_what_is_left_of_a_look_at_the_store_goes(bucket: BucketKind) -> None:
    """A process that was killed in it leaves an object, which a later run removes."""
    bucket.client.put("probe/2026-01-31T12-00-00.000000Z-1f0e7c5a", b"1")
    bucket.put_blob(blob(b"nobody's"), b"nobody's")
    ModelCache(bucket.another()).prune(age=0)
    assert len(bucket.objects()) == 1
    bucket.tune(probe_age=-1)
    bucket.put_blob(blob(b"nobody's"), b"nobody's")
    ModelCache(bucket.another()).prune(age=0)
    assert bucket.objects() == []


@pytest.mark.parametrize("name", ["a b", "a%20b", "t~#x", "q?*", "a+b&c", "b\\c", "{x}", "ä"])
def test_odd_names_are_taken_as_they_are(kind: BucketKind, name: str) -> None:
    """Whatever a download leaves among the blobs is listed, looked at and removed."""
    if isinstance(kind, AzureKind) and "\\" in name:
        pytest.skip("Azure takes it for a slash")
    kind.put_blob(name, b"x")
    assert list(kind.store.blobs()) == [name]
    report = ModelCache(kind.store).prune(age=0)
    assert (report.blobs, kind.objects()) == (1, [])


def test_what_is_gone_hides_nothing_of_a_delete_of_many(kind: BucketKind) -> None:
    """All others go, and none is under way when it has ended; one that cannot go is an error."""
    from concurrent.futures import ThreadPoolExecutor

    bucket = kind.another()._bucket
    names = [f"sha256-{number:04}" for number in range(700)]
    with ThreadPoolExecutor(16 if kind.threads else 1) as pool:
        list(pool.map(lambda name: kind.put_blob(name, b"x"), names))
    absent = ["blobs/absent", "blobs/sha256-0350x", "blobs/zz"]
    bucket.delete(absent[0], *(f"blobs/{name}" for name in names), *absent[1:])
    assert kind.objects() == []
    if isinstance(kind, AzureKind):
        kind.put_blob("leased", b"x")
        path = f"/{kind.client.prefix}/blobs/leased"
        lease = {"x_ms_lease_action": "acquire", "x_ms_lease_duration": "15"}
        azurite.account().put(path, "comp=lease", **lease)
        with pytest.raises(StoreError, match=r"^bucket/blobs/leased: the store answers 412"):
            bucket.delete("blobs/absent", "blobs/leased")


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
        "assert dict(store.versions()) == {}\n"
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
    assert said.endswith("use the store in the workers alone")
    assert listed == "[]"
