"""Pruning every so often, in the process of a server."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from ..cache.history import acting
from ..errors import RegistryError
from .who import who

if TYPE_CHECKING:
    from ..cache.model_cache import ModelCache

__all__ = ["Due", "Pruner"]

_log = logging.getLogger("registry_wsgi")

# How long after the start of a server the first prune is, and after how long a server asks again
# whether another process still prunes, in seconds. Whatever restarts a server again and again does
# not prune with each restart, and a server that is restarted every day does prune.
_SOON = 60.0


class Due(Protocol):
    """When the next prune is due, by ``time.time()``, for all workers: a shared number."""

    value: float

    def get_lock(self) -> Any:
        """Give the lock of the number."""


class _StoppedError(Exception):
    """The server ends."""


class Pruner:
    """
    A thread that prunes every so often, as `registry_wsgi.ModelCache.prune` does without arguments.

    Of all processes that claim the same store, one prunes at a time. A prune that fails is logged,
    and the next one comes as if it had not. Requests have the right of way at each step.

    Args:
        cache: Where the models are.
        every: How long after a prune the next one begins, in seconds.
        due: When the next one is due; shared by the workers.
    """

    def __init__(self, cache: ModelCache, every: float, due: Due) -> None:
        self._cache = cache
        self._every = every
        self._due = due
        self._stopped = threading.Event()
        # A worker that does not end in time is killed, and so may this be at any moment.
        self._thread = threading.Thread(target=self._run, name="registry_wsgi pruner", daemon=True)

    @staticmethod
    def first(every: float) -> float:
        """Tell when the first prune is due if the server starts now."""
        return time.time() + min(every, _SOON)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience: float = 5) -> None:
        """
        End a prune that is under way at its next step, and begin none.

        What it has set aside, and not yet removed, is put back or left to the next prune.

        Args:
            patience: How long to wait for that at most, in seconds.
        """
        self._stopped.set()
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._stopped.wait(min(max(self._due.value - time.time(), 0), _SOON)):
            if time.time() < self._due.value:
                continue
            try:
                self._prune_if_due()
            except _StoppedError:
                return
            except RegistryError as error:  # its message says all: a manifest is damaged, say
                _log.error("the prune of every %g seconds has failed: %s", self._every, error)
                self._put_off(self._every)
            except Exception:  # noqa: BLE001 - the next one may well succeed
                _log.exception("the prune of every %g seconds has failed", self._every)
                self._put_off(self._every)

    def _prune_if_due(self) -> None:
        release = self._cache.claim()
        if release is None:  # another process prunes
            self._put_off(min(self._every, _SOON))
            return
        try:
            if not self._put_off(self._every):
                return  # another worker has begun, and ended, since we looked
            with acting(*who("serve")):
                report = self._cache.prune(progress=self._give_way)
        finally:
            release()
        # Counted from the end, so that long prunes do not follow one another without a break.
        self._put_off(self._every, always=True)
        _log.info(
            "pruned: %d models, %d blobs, %d bytes; left for later: %d blobs; failures: %d",
            report.models,
            report.blobs,
            report.bytes,
            report.held_blobs,
            report.failed,
        )

    def _put_off(self, seconds: float, *, always: bool = False) -> bool:
        """Set when the next one is due, and tell whether one was due."""
        with self._due.get_lock():
            was_due = self._due.value <= time.time()
            if was_due or always:
                self._due.value = time.time() + seconds
            return was_due

    def _give_way(self, what: str, done: int, total: int | None) -> None:
        del what, done, total
        if self._stopped.wait(0.005):
            raise _StoppedError
