"""Whichever request is the last, nothing is lost, and the next run heals what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.bucket_seam import Seam, caching
from kit.clocks import Clock
from kit.faults import Killed
from kit.kinds import BucketKind
from kit.trees import blob
from kit.views import purge, state
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEY = "registry.ollama.ai/library/smol/latest"

pytestmark = pytest.mark.moments


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
            assert {f"blobs/{blob(b'weights')}", f"blobs/{blob(b'{}')}"} <= {*kind.objects()}
        # Listed and deleted alike are what they were once the leftovers are gone.
        store.tidy(math.inf)
        assert state(store) == now
        allowed = [f"manifests/{key}" for key in now["manifests"]]
        allowed += [f"trash/{e.id}/manifests/{e.key}" for e in now["deleted"]]
        allowed += [f"condemned/{aside.name}" for aside in now["condemned"]]
        rest = [k for k in kind.objects() if not k.startswith(("blobs/", "probe/"))]
        assert sorted(rest) == sorted(allowed)
        ModelCache(store).prune(age=0)
        ModelCache(store).prune(age=0, all=True)
        assert [k for k in kind.objects() if not k.startswith("probe/")] == []
        at += 1
    assert at > 3 or (not deleted and step in (_restore, _forget))
