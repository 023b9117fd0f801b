"""What was read is remembered in the bucket, so that an unchanged run reads nothing again."""

from __future__ import annotations

import gzip
import json
import math
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kit import inside
from kit.bucket_seam import Seam, caching
from kit.kinds import BucketKind
from kit.trees import blob, manifest
from kit.views import state
from registry_wsgi import ModelCache
from registry_wsgi.names import Name

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"


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
    assert counts[0] == counts[1] <= 28


def test_what_is_held_costs_no_reads(kind: BucketKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Once its markers are known, a run that leaves or removes many blobs reads none of them.

    In Google Cloud each is read, as no listing tells the numbers that a write there needs.
    """
    kind.tune(few=3)  # of fewer, each is asked for
    kind.put("h/n/m/t", b"weights")  # where there is no model, nothing is removed
    for number in range(9):
        kind.put_blob(blob(b"%d" % number), b"nobody's")
    kind.clock.move(days=8)
    assert caching(kind).prune().held_blobs == 9
    assert caching(kind).prune().held_blobs == 9
    seam = Seam(monkeypatch, lambda *_: None)
    assert caching(kind).prune().held_blobs == 9
    most = 27 if inside.bucket_of(kind.store).numbers else 0
    assert len(reads(seam, "condemned")) <= most
    kind.clock.move(days=1)
    seam.requests.clear()
    assert caching(kind).prune().blobs == 9
    assert len(reads(seam, "condemned")) <= most
    assert not [*kind.store.condemned()]


def test_a_marker_that_is_another_by_now_is_not_taken_for_what_it_was(kind: BucketKind) -> None:
    """A blob that another run has put back and marked anew is that run's."""
    kind.tune(few=3)
    names = sorted(blob(b"%d" % number) for number in range(9))
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


def test_the_cost_of_a_delete_does_not_grow(
    bucket: BucketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the first, which looks at what the store can do, a delete is five requests."""
    store = bucket.store
    counts = []
    for number in range(40):
        bucket.put(f"h/n/m{number}/t", b"weights")
    seam = Seam(monkeypatch, lambda *_: None)
    for number in range(40):
        seam.requests.clear()
        assert ModelCache(store).unlink(f"h/n/m{number}:t")
        counts.append(len(seam.requests))
    assert counts[0] == 15
    assert {*counts[1:]} == {5}
