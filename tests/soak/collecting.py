"""What the pruners of a soak do, and how a protection is taken away from them."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from registry_wsgi import PruneReport
from registry_wsgi.cache.collector.sweep import Sweep
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelNotFoundError,
    OutOfReachError,
    RegistryError,
)
from registry_wsgi.stores.base import Condemned, Store
from soak.board import Count, Phase
from soak.workers import Worker

_T = TypeVar("_T")


def prune(worker: Worker) -> None:
    """Collect."""
    cache = worker.cache()
    if not cache.store.sets_aside:
        note_removals(worker, cache.store)
    runs = [lambda: cache.prune(age=worker.settings.age)] * 3
    runs += [cache.prune, lambda: cache.prune(deleted_only=True)]
    if worker.place.others:
        walk_slowly(worker, cache.store)
    for phase in worker.turns(*(phase for phase in Phase if phase not in (Phase.STOP, Phase.REST))):
        with refusals_counted(worker):
            if phase == Phase.QUIET:
                with worker.alone(fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
                    # Somebody sees that no pull is under way.
                    report = cache.prune(age=0 if alone else worker.settings.age)
                worker.count(Count.QUIET, alone)
            else:
                report = worker.rng.choice(runs)()
            worker.count(Count.COLLECTIONS)
            count_removed(worker, report)
        worker.pause(0.03)


def forget(worker: Worker) -> None:
    """Remove deleted models for good, one at a time."""
    cache = worker.cache()
    if not cache.store.sets_aside:
        note_removals(worker, cache.store)
    for _ in worker.turns(Phase.BUSY, Phase.STILL, Phase.ALONE):
        names = sorted({model.name for model in cache.deleted()})
        if names:
            with refusals_counted(worker), suppress(ModelNotFoundError):  # another was faster
                report = cache.forget(worker.rng.choice(names))
                worker.count(Count.FORGOTTEN, report.models)
                count_removed(worker, report)
        worker.pause(0.1)


def count_removed(worker: Worker, report: PruneReport) -> None:
    """Count what a run has removed, and what it has left."""
    worker.count(Count.REMOVED, report.blobs)
    worker.count(Count.UNTOUCHED, report.failed)
    worker.count(Count.UNSETTLED, report.unsettled)


@contextmanager
def refusals_counted(worker: Worker) -> Iterator[None]:
    """Count a run that stops where it should, and note any other error of the library."""
    committed = worker.board.total(Count.COMMITTED)
    try:
        yield
    except InvalidManifestError:
        worker.count(Count.STOPPED)
    except OutOfReachError as error:
        if committed > worker.board.total(Count.DELETES):
            worker.error(error)
        else:  # on a slow machine pulls have left blobs, and no model is there yet
            worker.count(Count.STOPPED)
    except RegistryError as error:
        worker.error(error)


def walk_slowly(worker: Worker, store: Store) -> None:
    """Let some walks through the manifests take their time, as those of a large store do."""
    read_all, versions = store.read_all, store.versions

    slow = False

    def slowly(walk: Callable[[], Iterator[_T]]) -> Callable[[], Iterator[_T]]:
        def walked() -> Iterator[_T]:
            nonlocal slow
            if walk == read_all:  # the first walk of a run
                slow = worker.board.phase == Phase.QUIET or worker.rng.random() < 0.3
            for found in walk():
                yield found
                if slow:
                    worker.pause(0.004)

        return walked

    store.read_all = slowly(read_all)  # type: ignore[method-assign]
    store.versions = slowly(versions)  # type: ignore[method-assign]


def note_removals(worker: Worker, store: Store) -> None:
    """
    Write down which blobs are removed for good, and when those who do began to read manifests anew.

    A store that only marks blobs promises less: `History.removed_unseen`. And as it is removed from
    in moments, while a large one takes its time, there is some time between the steps here.
    """
    mark_again, purge = Sweep.mark_again, store.purge
    journal, slow = worker.journal, worker.settings.slow
    began = 0.0

    def marks_again(self: Sweep) -> None:
        nonlocal began
        worker.pause(slow)
        began = time.monotonic()
        mark_again(self)
        worker.pause(slow)

    def noted(blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, float]]:
        for blob, until in blobs:
            journal.write("remove", blob.name, f"{began} {time.time() - blob.when}")
            yield blob, until

    def purges(blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        yield from purge(noted(blobs))
        journal.write("removed", "-")

    Sweep.mark_again = marks_again  # type: ignore[method-assign]
    store.purge = purges  # type: ignore[method-assign]


def disable(protection: str | None) -> None:
    """Take a protection out of the collector, in this process and those that it starts."""
    if protection == "hold":
        # What is set aside goes at once, pull or no pull.
        Sweep.waits = lambda self, since: False  # type: ignore[method-assign]
    elif protection == "put-back":
        # What is needed again stays aside.
        Sweep.put_back = lambda self, blobs: None  # type: ignore[method-assign]
    elif protection == "second-mark":
        # Manifests are read once, before blobs are set aside.
        Sweep.mark_again = lambda self: None  # type: ignore[method-assign]
