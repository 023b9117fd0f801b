"""Pruning every so often, in the process of a server: `registry_wsgi.cli.pruner`."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from kit.servers import wait_for
from registry_wsgi import MemoryStore, ModelCache, PruneReport
from registry_wsgi.cli.pruner import Due, Pruner
from registry_wsgi.errors import StoreError

Start = Callable[..., Pruner]


class Cache(ModelCache):
    """A cache that counts its prunes, and can be told what happens during one."""

    def __init__(self, during: Callable[[Any], None] = lambda progress: None) -> None:
        super().__init__(MemoryStore())
        self.during = during
        self.claimed = threading.Lock()
        self.prunes = 0
        self.at_once = 0
        self.most_at_once = 0

    def claim(self) -> Callable[[], None] | None:
        return self.claimed.release if self.claimed.acquire(blocking=False) else None

    def prune(self, **options: Any) -> PruneReport:
        self.prunes += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.during(options["progress"])
        finally:
            self.at_once -= 1
        return PruneReport()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a pruner."""
    started: list[Pruner] = []

    def begin(cache: Cache, every: float = 0.01, due: Due | None = None) -> Pruner:
        pruner = Pruner(cache, every, due or now())
        started.append(pruner)
        pruner.start()
        return pruner

    yield begin
    for pruner in started:
        pruner.stop()


def now() -> Due:
    return cast("Due", multiprocessing.Value("d", time.time()))


def test_it_prunes_again_and_again_also_after_an_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged."""

    def fail(progress: object) -> None:
        if cache.prunes == 1:
            raise StoreError("the disk is gone")

    cache = Cache(fail)
    start(cache)
    wait_for(lambda: cache.prunes >= 3, "a prune")
    assert "the disk is gone" in caplog.text


def test_what_is_wrong_with_the_store_is_one_line(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each run; what nobody has foreseen has a traceback."""

    def fail(progress: object) -> None:
        raise StoreError("a manifest is damaged") if cache.prunes == 1 else OSError("strange")

    cache = Cache(fail)
    start(cache)
    wait_for(lambda: cache.prunes >= 3, "a prune")
    damaged, strange = caplog.records[:2]
    assert damaged.getMessage().endswith("has failed: a manifest is damaged")
    assert damaged.exc_info is None
    assert strange.exc_info is not None


def test_of_several_workers_one_prunes(start: Start) -> None:
    """And none of the others follows at once."""
    go_on = threading.Event()
    cache = Cache(lambda progress: None if go_on.wait(5) else pytest.fail("waited too long"))
    due = now()
    for _ in range(4):
        start(cache, 600, due)
    wait_for(lambda: cache.prunes == 1, "a prune")
    go_on.set()
    wait_for(lambda: due.value > time.time() + 500, "a prune")
    assert (cache.prunes, cache.most_at_once) == (1, 1)


def test_while_another_process_prunes_it_waits(start: Start) -> None:
    """Then it asks again."""
    cache = Cache()
    cache.claimed.acquire()
    start(cache)
    time.sleep(0.05)
    assert cache.prunes == 0
    cache.claimed.release()
    wait_for(lambda: cache.prunes > 0, "a prune")


def test_it_ends_in_the_midst_of_a_prune(start: Start) -> None:
    """At the next step, and gives the claim back."""

    def work(progress: Any) -> None:
        while True:
            progress("removing blobs", 1, 2)

    cache = Cache(work)
    pruner = start(cache)
    wait_for(lambda: cache.prunes == 1, "a prune")
    pruner.stop()
    assert (cache.at_once, cache.claimed.locked()) == (0, False)


def test_the_first_one_is_soon_after_the_start() -> None:
    """So that a server which is restarted every day prunes, too."""
    assert 50 < Pruner.first(86_400) - time.time() <= 60
    assert Pruner.first(5) - time.time() <= 5
