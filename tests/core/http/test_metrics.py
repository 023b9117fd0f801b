"""Metrics and observers: what is counted, and that counting changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from werkzeug.test import Client

from kit.requirements import require
from kit.servers import wait_for
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache
from registry_wsgi.cache.collector import PruneReport
from registry_wsgi.cache.space import Space

NAME = "registry.ollama.ai/library/smol:latest"


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def deleted(self, name: str) -> None:
        self.told.append(("deleted", name))

    def restored(self, name: str) -> None:
        self.told.append(("restored", name))

    def pruned(self, report: PruneReport, seconds: float, *, deleted_only: bool) -> None:
        assert seconds >= 0
        assert not report.dry_run
        self.told.append(("pruned", report.models, deleted_only))

    def answered(self, method: str, path: str, status: int) -> None:
        self.told.append(("answered", method, path, status))


class Broken(Notes):
    """An observer that fails once it has taken note."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("deleted", "restored", "pruned", "answered"):
            object.__getattribute__(self, "told").append((name,))
            raise OSError("no space left")
        return super().__getattribute__(name)


def ask(tree: Tree, observer: Any) -> list[int]:
    """Make one request of each kind; the statuses."""
    tree.add("smol", b"weights")
    tree.add("bad", b"x")
    cache = ModelCache(DiskStore(tree.root))
    cache.observer = observer
    client = Client(LocalRegistry(None, cache, maintenance=True, observer=observer))

    def post(path: str, body: object) -> int:
        return client.post(path, json=body, buffered=True).status_code

    statuses = [
        client.delete("/api/delete", json={"model": "SMOL"}).status_code,
        client.delete("/api/delete", json={"model": "SMOL"}).status_code,
        post("/api/restore", {"model": "smol"}),
        post("/api/delete", {"model": "smol"}),
        post("/api/prune", {"age": "0", "dry_run": True}),
        post("/api/prune", {"age": "0", "stream": True}),
        client.get("/elsewhere").status_code,
    ]
    tree.write("bad", b"{")
    return [*statuses, post("/api/prune", {"age": "0"})]


STATUSES = [200, 404, 200, 200, 200, 200, 404, 409]


def test_an_observer_is_told_of_each_change_and_each_answer(tree: Tree) -> None:
    """Of what was done, and not of what was tried."""
    observer = Notes()
    assert ask(tree, observer) == STATUSES
    assert observer.told == [
        ("deleted", NAME),
        ("pruned", 0, True),
        ("answered", "DELETE", "/api/delete", 200),
        ("answered", "DELETE", "/api/delete", 404),
        ("restored", NAME),
        ("answered", "POST", "/api/restore", 200),
        ("deleted", NAME),
        ("pruned", 0, True),
        ("answered", "POST", "/api/delete", 200),
        ("answered", "POST", "/api/prune", 200),
        ("pruned", 1, False),
        ("answered", "POST", "/api/prune", 200),
        ("answered", "GET", "/elsewhere", 404),
        ("answered", "POST", "/api/prune", 409),
    ]


def test_an_observer_that_fails_changes_nothing(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """That it failed is in the log, each time."""
    caplog.set_level(logging.INFO)
    observer = Broken()
    assert ask(tree, observer) == STATUSES
    failures = [record for record in caplog.records if record.message == "the observer failed"]
    assert len(failures) == len(observer.told) == 14
    assert all(record.exc_info for record in failures)
    assert len([record for record in caplog.records if hasattr(record, "status")]) == len(STATUSES)


def test_the_metrics_count_it(tree: Tree) -> None:
    """Each under its name."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry

    from registry_wsgi.http.metrics import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(registry)
    before = time.time()
    assert ask(tree, metrics) == STATUSES

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"registry_wsgi_{name}", labels)

    def requests(method: str, path: str, status: int) -> float | None:
        return value("requests_total", method=method, path=path, status=str(status))

    assert requests("DELETE", "/api/delete", 200) == 1
    assert requests("DELETE", "/api/delete", 404) == 1
    assert requests("POST", "/api/prune", 200) == 2
    assert requests("POST", "/api/prune", 409) == 1
    assert requests("GET", "other", 404) == 1
    assert value("models_deleted_total") == 2
    assert value("models_restored_total") == 1
    assert value("models_removed_total") == 1
    assert value("freed_bytes_total") == len(b"weights")
    assert value("prune_seconds_count") == 1
    assert value("held_bytes") == 0
    last = value("prune_last_success_timestamp_seconds")
    assert last is not None
    assert before <= last <= time.time()


def test_bytes_that_are_held_are_shown(tree: Tree) -> None:
    """As of the last prune of the whole store."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry

    from registry_wsgi.http.metrics import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.pruned(PruneReport(held_bytes=7), 0.5, deleted_only=False)
    metrics.pruned(PruneReport(bytes=3), 0.5, deleted_only=True)
    assert registry.get_sample_value("registry_wsgi_held_bytes") == 7
    assert registry.get_sample_value("registry_wsgi_freed_bytes_total") == 3
    assert registry.get_sample_value("registry_wsgi_prune_seconds_count") == 1


def test_what_a_client_makes_up_is_no_series_of_its_own() -> None:
    """Else anyone could fill the memory."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry, generate_latest

    from registry_wsgi.http.metrics import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(100):
        metrics.answered(f"M{number}", f"/{number}", 404)
    text = generate_latest(registry).decode()
    assert 'registry_wsgi_requests_total{method="other",path="other",status="404"} 100.0' in text
    assert text.count("registry_wsgi_requests_total{") == 1


def test_gauges_show_the_space_of_the_store(tree: Tree) -> None:
    """As `ModelCache.space` has it, and when somebody last pruned, be it another process."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry

    from registry_wsgi.http.metrics import Metrics

    tree.add("smol", b"weights" * 1_000)
    tree.add("gone", b"other" * 1_000)
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("gone")
    registry = CollectorRegistry(auto_describe=True)
    Metrics(registry, cache=cache)
    known = wait_for(lambda: _gauges(registry), "the store to be measured")
    space = cache.space()
    parts = {key[1]: value for key, value in known.items() if key[0] == "store_bytes"}
    assert parts.pop("trash") == space.trash.taken > 0
    assert parts.pop("own") == space.own.taken > 0
    assert sum(parts.values()) + space.trash.taken + space.own.taken == space.total.taken
    assert known["disk_bytes", ""] == space.disk
    assert 0 < known["disk_free_bytes", ""] <= known["disk_bytes", ""]
    assert (known["models", "in_place"], known["models", "deleted"]) == (1, 1)
    assert ("last_prune_timestamp_seconds", "") not in known

    before = time.time()
    ModelCache(DiskStore(tree.root)).prune()
    cache.prune_deleted()
    assert _gauges(registry) == known  # for a minute
    again = CollectorRegistry()
    Metrics(again, cache=cache)
    known = wait_for(lambda: _gauges(again), "the store to be measured")
    assert before <= known["last_prune_timestamp_seconds", ""] <= time.time()
    assert before <= known["measured_timestamp_seconds", ""] <= time.time()


def test_a_store_that_cannot_be_measured_has_no_gauges(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """The other metrics are there, and the log says why."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry

    from registry_wsgi.http.metrics import Metrics

    cache = ModelCache(DiskStore(tree.root))
    registry = CollectorRegistry()
    metrics = Metrics(registry, cache=cache)
    metrics.deleted(NAME)
    tree.root.rename(tree.root.with_name("elsewhere"))

    def warned() -> bool:
        assert registry.get_sample_value("registry_wsgi_models_deleted_total") == 1
        return "is not known to the metrics" in caplog.text

    wait_for(warned, "the log to say so")
    assert _gauges(registry) == {}


def test_no_answer_waits_for_a_large_store(tree: Tree) -> None:
    """While the store is being measured, the other metrics are told, and one thread measures."""
    require("prometheus_client")
    from prometheus_client import CollectorRegistry

    from registry_wsgi.http.metrics import Metrics

    begun, go_on = threading.Semaphore(0), threading.Event()

    class Slow(ModelCache):
        def space(self) -> Space:
            begun.release()
            assert go_on.wait(20)
            return super().space()

    registry = CollectorRegistry()
    Metrics(registry, cache=Slow(DiskStore(tree.root)))
    try:
        assert _gauges(registry) == {}
        assert begun.acquire(timeout=20)
        assert _gauges(registry) == {}
        assert not begun.acquire(blocking=False)
    finally:
        go_on.set()
    wait_for(lambda: _gauges(registry), "the store to be measured")


def _gauges(registry: Any) -> dict[tuple[str, str], float]:
    """The gauges of a store, by name and label."""
    names = {"store_bytes", "disk_bytes", "disk_free_bytes", "models"}
    names |= {"last_prune_timestamp_seconds", "measured_timestamp_seconds"}
    return {
        (name, "".join(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if (name := sample.name.removeprefix("registry_wsgi_")) in names
    }
