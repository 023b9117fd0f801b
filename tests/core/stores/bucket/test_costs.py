"""What each call costs in requests, by how many models there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.bucket_seam import Seam, caching
from kit.clocks import Clock
from kit.kinds import BucketKind
from kit.trees import blob, manifest
from registry_wsgi import ModelCache

LAYERS = 4
SIZES = 50, 200


def _deleted_all(kind: BucketKind) -> None:
    for number in range(len(caching(kind).models())):
        assert caching(kind).unlink(f"h/n/m{number}:t")


CALLS: dict[str, Callable[[ModelCache], object]] = {
    "list": lambda cache: cache.models(),
    "usage": lambda cache: cache.usage(["h/n/m1:t"]),
    "verify": lambda cache: cache.verify(),
    "repair": lambda cache: cache.verify(repair=True),
    "dry run": lambda cache: cache.prune(dry_run=True),
    "prune": lambda cache: cache.prune(),
    "prune all": lambda cache: cache.prune(age=0, all=True),
    "deleted": lambda cache: cache.deleted(),
}


def furnish(tmp_path: Path, count: int) -> BucketKind:
    """A store of *count* models, whose pages are small for as few models as a test can have."""
    kind = BucketKind(tmp_path, Clock())
    kind.tune(page=20, few=5, density=10, index_after=5)
    for number in range(count):
        layers = [b"%d %d" % (number, layer) for layer in range(LAYERS)]
        for data in layers:
            kind.put_blob(blob(data), data)
        kind.put_manifest(f"h/n/m{number}/t", manifest(*layers[1:], config=layers[0]))
    return kind


@pytest.mark.parametrize("call", CALLS)
def test_no_call_costs_more_than_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Four times the models are at most four times the requests and pages, and a constant."""
    costs = []
    for count in SIZES:
        kind = furnish(tmp_path, count)
        if call == "deleted":
            _deleted_all(kind)
        with monkeypatch.context() as patch:
            seam = Seam(patch, lambda *_: None)
            CALLS[call](caching(kind))
            costs.append(len(seam.requests) + seam.pages)
    small, large = costs
    assert large <= 4 * small + 10


@pytest.mark.parametrize("call", ["list", "deleted"])
def test_what_was_listed_once_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The first listing of many writes the index, and the next reads it: pages and no more."""
    count = SIZES[0]
    kind = furnish(tmp_path, count)
    if call == "deleted":
        _deleted_all(kind)
    CALLS[call](caching(kind))
    seam = Seam(monkeypatch, lambda *_: None)
    CALLS[call](caching(kind))
    names = [name for name, _ in seam.requests]
    assert names.count("get") <= 2
    assert len(names) + seam.pages < count


def test_a_few_of_many_blobs_do_not_cost_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deleted models of a large store are looked at blob by blob."""
    kind = furnish(tmp_path, SIZES[1])
    for number in range(2):
        assert caching(kind).unlink(f"h/n/m{number}:t")
    seam = Seam(monkeypatch, lambda *_: None)
    assert all(model.restorable for model in caching(kind).deleted())
    assert len(seam.requests) + seam.pages < SIZES[1] * LAYERS / 20


def test_few_requests_of_a_delete_or_a_restore_wait_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked at once counts once: each way to the store and back takes its time."""
    kind = furnish(tmp_path, 2)
    cache = caching(kind)
    assert cache.unlink("h/n/m0:t")  # the first looks at what the store can do
    threads: list[str] = []

    def note(*_: object) -> None:
        name = threading.current_thread().name
        threads.append(name.partition("_")[0] if "Pool" in name else f"{name} {len(threads)}")

    Seam(monkeypatch, note)
    assert cache.unlink("h/n/m1:t")
    assert len({*threads}) == len(threads) == 5
    threads.clear()
    assert cache.restore("h/n/m1:t")
    assert len({*threads}) == 8
    assert len(threads) == 10 + LAYERS
