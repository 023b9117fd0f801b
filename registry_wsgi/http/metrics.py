"""
Metrics for Prometheus, with the extra ``metrics``.

=================================================== ================================================
metric                                              what it counts
=================================================== ================================================
``registry_wsgi_requests_total``                    requests handled here, by ``method``, ``path``
                                                    and ``status``
``registry_wsgi_models_deleted_total``              models moved into the trash
``registry_wsgi_models_restored_total``             models brought back
``registry_wsgi_models_removed_total``              models that prunes removed for good
``registry_wsgi_freed_bytes_total``                 bytes that prunes gave back
``registry_wsgi_prune_seconds``                     how long prunes took (a histogram)
``registry_wsgi_prune_last_success_timestamp``      when the last one ended well, in seconds since
``_seconds``                                        the epoch
``registry_wsgi_held_bytes``                        bytes that the last one set aside for a later
                                                    one, as a pull may need them
=================================================== ================================================

The last three leave out the prune after a delete, which only looks at the trash. No metric counts a
dry run. Only the processes that are measured count: a prune from the command line does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from ..cache.collector import PruneReport

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Metrics"]

_PREFIX = "registry_wsgi"

# A client can send any method and path, and each new one would be a time series that never goes
# away. So all methods and paths but these count as "other".
_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_PATHS = {
    *(f"/api/{name}" for name in ("delete", "deleted", "evict", "forget", "prune", "restore")),
    *(f"/api/{name}" for name in ("history", "models", "orphans", "space", "usage")),
}

_SECONDS = (0.1, 1, 5, 15, 60, 300, 900, 3600)


class Metrics:
    """
    An `registry_wsgi.cache.observer.Observer` that counts for Prometheus.

    Give it to both the cache and `registry_wsgi.LocalRegistry`, and serve `app`. Make one for each
    process: a second one in the same *registry* is an error of ``prometheus_client``.

    Args:
        registry: Where the metrics are kept; None: the default one of ``prometheus_client``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = DEFAULT_REGISTRY if registry is None else registry
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Requests handled.",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self._deleted = self._counter("models_deleted", "Models moved into the trash.")
        self._restored = self._counter("models_restored", "Models brought back.")
        self._removed = self._counter("models_removed", "Models removed for good.")
        self._freed = self._counter("freed_bytes", "Bytes given back.")
        self._seconds = Histogram(
            f"{_PREFIX}_prune_seconds",
            "How long prunes took.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._last = self._gauge(
            "prune_last_success_timestamp_seconds", "When the last prune ended well."
        )
        self._held = self._gauge("held_bytes", "Bytes that the last prune left for a later one.")

    @property
    def app(self) -> WSGIApplication:
        """
        A WSGI app that answers with the metrics.

        Under several workers, ``PROMETHEUS_MULTIPROC_DIR`` names an empty directory that they
        share, and the answer is the sum of all.
        """
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return make_wsgi_app(registry)

    def deleted(self, name: str) -> None:
        """Count a deleted model."""
        del name
        self._deleted.inc()

    def restored(self, name: str) -> None:
        """Count a restored model."""
        del name
        self._restored.inc()

    def pruned(self, report: PruneReport, seconds: float, *, deleted_only: bool) -> None:
        """Count what a prune removed."""
        self._removed.inc(report.models)
        self._freed.inc(report.bytes)
        if not deleted_only:
            self._seconds.observe(seconds)
            self._last.set_to_current_time()
            self._held.set(report.held_bytes)

    def answered(self, method: str, path: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(
            method if method in _METHODS else "other",
            path if path in _PATHS else "other",
            str(status),
        ).inc()

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", help_text, registry=self._registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        # With several workers, the value is the one that was set last.
        return Gauge(
            f"{_PREFIX}_{name}",
            help_text,
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
