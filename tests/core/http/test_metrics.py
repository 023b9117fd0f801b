"""Metrics and observers: what is counted, and that counting changes nothing."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from werkzeug.test import Client

from kit.requirements import require
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache
from registry_wsgi.cache.collector import PruneReport

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


STATUSES = [200, 404, 200, 200, 200, 200, 404, 500]


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
        ("answered", "POST", "/api/prune", 500),
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
    assert requests("POST", "/api/prune", 500) == 1
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
