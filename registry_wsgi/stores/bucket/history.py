"""The history: an object for each of the last changes, if the tuning says how many to keep."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ...errors import StoreError
from ..layout import entry_id
from .requests import Bucket

__all__ = ["History"]

_log = logging.getLogger("registry_wsgi")

# How many lines are on their way to the bucket at once. With more, whoever adds one waits.
_AT_ONCE = 8


class History:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is a history.

    ``history/<when>-<random>`` is one line. `~registry_wsgi.stores.base.HistoryStore` says what its
    methods do.

    Args:
        bucket: Where the lines are.
        clock: The time here in seconds since the epoch.
    """

    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.time) -> None:
        self._bucket = bucket
        self._clock = clock
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def append_history(self, line: str) -> None:
        key = f"history/{entry_id(self._clock())}"
        self._free.acquire()

        def put() -> None:
            try:
                self._bucket.overwrite(key, line.encode())
            except Exception as error:  # noqa: BLE001 - whatever it is, the change stands
                _log.info("not in the history: %s", error)
            finally:
                self._free.release()

        # No delete waits for it. A process that ends does, as this is no daemon thread.
        thread = threading.Thread(target=put, name="registry_wsgi history")
        try:
            thread.start()
        except RuntimeError as error:
            self._free.release()
            raise StoreError(f"{self._bucket.name}/{key}: {error}") from error

    def history(self) -> list[str]:
        found = self._bucket.at_once(self._bucket.get, self._keys()[-self._bucket.tuning.history :])
        return [content.data.decode("ascii", "replace") for content in found if content]

    def tidy(self) -> None:
        """Remove the oldest lines."""
        extra = self._keys()[: -self._bucket.tuning.history]
        if extra:
            self._bucket.delete(*extra)

    def _keys(self) -> list[str]:
        return sorted(meta.key for meta in self._bucket.objects("history"))
