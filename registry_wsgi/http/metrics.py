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

With a *cache*, there are gauges of its store besides. Whoever changes it, by the command line or
with Ollama itself, these see it:

=================================================== ================================================
gauge                                               what it shows
=================================================== ================================================
``registry_wsgi_store_bytes``                       bytes of the disk that the store takes, by
                                                    ``part``: ``own``, ``shared``, ``trash``,
                                                    ``aside``, ``unneeded``, ``unfinished`` and
                                                    ``rest`` (`registry_wsgi.cache.space.Space`),
                                                    which add up to all of it
``registry_wsgi_disk_bytes``                        bytes of the disk
``registry_wsgi_disk_free_bytes``                   bytes of the disk that are free
``registry_wsgi_models``                            models, by ``state``: ``in_place``, ``deleted``
``registry_wsgi_last_prune_timestamp_seconds``      when the last prune of the whole store was, by
                                                    any process, if the history knows; in seconds
                                                    since the epoch. Of prunes that removed nothing
                                                    it has one in half a day
``registry_wsgi_measured_timestamp_seconds``        when these gauges were measured
=================================================== ================================================

To measure is to look at each file of the store. A thread does that, at most once a minute and for a
twentieth of the time, when somebody asks for the metrics. An answer waits for it for one second: of
a large store it shows what was measured before, and the first answer does not have these gauges. If
the store cannot be measured, they are not there. Each worker measures by itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..cache.collector import PruneReport
from ..cache.model_cache import ModelCache
from ..cache.space import Space

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


__all__ = ["Metrics"]

_log = logging.getLogger("registry_wsgi")

_PREFIX = "registry_wsgi"

# A client can send any method and path, and each new one would be a time series that never goes
# away. So all methods and paths but these count as "other".
_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_PATHS = {
    *(f"/api/{name}" for name in ("delete", "deleted", "evict", "forget", "prune", "restore")),
    *(f"/api/{name}" for name in ("history", "models", "orphans", "space", "usage")),
}

# How long an answer waits for the space to be measured, how long what was measured is shown at
# least, and how many times as long as it took to measure; in seconds.
_WAIT = 1.0
_SHOWN = 60.0
_TIMES = 20

_PARTS = ("own", "shared", "trash", "aside", "unneeded", "unfinished", "rest")

_SECONDS = (0.1, 1, 5, 15, 60, 300, 900, 3600)


class Metrics:
    """
    An `registry_wsgi.cache.observer.Observer` that counts for Prometheus.

    Give it to both the cache and `registry_wsgi.LocalRegistry`, and serve `app`. Make one for each
    process: a second one in the same *registry* is an error of ``prometheus_client``.

    Args:
        registry: Where the metrics are kept; None: the default one of ``prometheus_client``.
        cache: Whose store the gauges are about. None: there are no gauges of a store.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, cache: ModelCache | None = None
    ) -> None:
        self._registry = DEFAULT_REGISTRY if registry is None else registry
        self._gauges = None if cache is None else _StoreGauges(cache)
        if self._gauges is not None:
            self._registry.register(self._gauges)
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
            if self._gauges is not None:
                registry.register(self._gauges)
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


class _Measured(NamedTuple):
    """What a store was like at one moment, in seconds since the epoch."""

    when: float
    space: Space
    last_prune: float | None


class _StoreGauges(Collector):
    """
    Gauges of the space of a store, measured in a thread so that no answer waits for long.

    Args:
        cache: Whose store it is.
    """

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._due = 0.0  # by the monotonic clock
        self._measured: _Measured | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauges, so that nothing is measured to register them."""
        return _families(None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Give the gauges, if they are known."""
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if not running and time.monotonic() >= self._due:
                # A process that ends does not wait for it.
                self._thread = threading.Thread(
                    target=self._measure, name="registry_wsgi metrics", daemon=True
                )
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(_WAIT)
        return [family for family in _families(self._measured) if family.samples]

    def _measure(self) -> None:
        begun = time.monotonic()
        measured = None
        try:
            prunes = (change for change in self._cache.history() if change.action == "prune")
            last = next(prunes, None)
            last_prune = None if last is None else last.when.timestamp()
            measured = _Measured(time.time(), self._cache.space(), last_prune)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other metrics are there
            _log.warning("the space of the store is not known to the metrics: %s", error)
        self._measured = measured
        ended = time.monotonic()
        self._due = ended + max(_SHOWN, _TIMES * (ended - begun))


def _families(measured: _Measured | None) -> list[GaugeMetricFamily]:
    """Make the gauges of what was *measured*; without samples if nothing was."""

    def family(name: str, text: str, label: str = "", **values: float | None) -> GaugeMetricFamily:
        made = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=[label] if label else [])
        for key, value in values.items():
            if value is not None:
                made.add_metric([key] if label else [], value)
        return made

    space = None if measured is None else measured.space
    disk, free = (None, None) if space is None else (space.disk, space.free)
    parts = {part: getattr(space, part).taken for part in _PARTS} if space else {}
    states = {"in_place": space.models, "deleted": space.deleted} if space else {}
    return [
        family("store_bytes", "Bytes of the disk that the store takes.", "part", **parts),
        family("disk_bytes", "Bytes of the disk.", value=disk),
        family("disk_free_bytes", "Bytes of the disk that are free.", value=free),
        family("models", "Models in place and in the trash.", "state", **states),
        family(
            "last_prune_timestamp_seconds",
            "When the last prune of the store was, by any process.",
            value=measured and measured.last_prune,
        ),
        family(
            "measured_timestamp_seconds",
            "When the space was measured.",
            value=measured and measured.when,
        ),
    ]
