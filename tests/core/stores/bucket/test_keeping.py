"""Programs that have their blobs kept, in the midst of runs that remove what nothing needs."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from kit.bucket_seam import Seam, caching
from kit.clocks import Clock
from kit.effort import Effort
from kit.kinds import BucketKind
from kit.trees import blob, manifest
from kit.views import content
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEY = "registry.ollama.ai/library/smol/latest"


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
    kind.put("example.com/ns/other/v1", b"of another")  # in a store without models nothing goes
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
    kind.put("example.com/ns/other/v1", b"of another")  # in a store without models nothing goes
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
    *,
    last: Sequence[str],
    marked: bool,
    whole: bool,
    effort: Effort,
) -> None:
    """Whenever the last steps of a pull come, its blob is there; if it does not keep it, not so."""

    def meet(at: int, then: int) -> tuple[bool, int]:
        return pull_meets_run(tmp_path, monkeypatch, at, then, marked=marked, last=last)

    _, requests = meet(1_000, 1_000)
    assert requests > 20
    moments = list(itertools.combinations_with_replacement(range(requests + 1), 2))
    if whole:
        moments = effort.choose(moments, 120)
    else:
        random.Random(1).shuffle(moments)  # one that breaks is found soon
    broken = next((pair for pair in moments if not meet(*pair)[0]), None)
    assert (broken is None) is whole, broken
