"""Trying out a bucket before anything in it is changed: do its conditions and its clock hold?"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ...durations import moment
from ...errors import StoreError
from ..layout import entry_id, entry_time
from .blobs import Blobs
from .requests import Bucket, Meta, is_used
from .s3 import ConditionalDeletes

__all__ = ["Probe", "look_at"]

_log = logging.getLogger("registry_wsgi")

# What a child process writes when it could list the bucket.
_FINE = b"\0"


def look_at(bucket: Bucket) -> None:
    """
    Make sure that *bucket* can be listed.

    obstore starts threads with its first request, and a process that is forked later has none of
    them. So as long as it can, this forks a child for the request: then a server may open a bucket
    before it forks its workers.

    Raises:
        StoreError: The bucket cannot be listed.
    """
    if is_used() or threading.active_count() > 1 or not _is_alone():
        bucket.folder("manifests")
        return
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            bucket.folder("manifests")
            os.write(writer, _FINE)
        except StoreError as error:
            os.write(writer, str(error).encode(errors="backslashreplace"))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    with suppress(ChildProcessError):  # where somebody else waits for all children, or nobody does
        os.waitpid(child, 0)
    if said != _FINE:
        raise StoreError(said.decode() or f"{bucket.name}: cannot be opened")


def _is_alone() -> bool:
    """Tell whether this process has one thread; those that Python does not know count, too."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:  # not Linux
        return True


class Probe:
    """
    Finds out whether a bucket can be relied upon.

    Args:
        bucket: Which bucket.
        blobs: The blobs, whose versions and uploads are asked about.
        clock: The time here in seconds since the epoch.
        conditional: Finds out whether the store deletes on a condition. None: it cannot.
    """

    def __init__(
        self,
        bucket: Bucket,
        blobs: Blobs,
        clock: Callable[[], float],
        conditional: ConditionalDeletes | None = None,
    ) -> None:
        self._bucket = bucket
        self._conditional = conditional
        self._versions = blobs.versions
        self._uploads = blobs.uploads
        self._clock = clock
        self._done = False
        # How far the clock here was ahead of the monotonic one, when it was found to be right.
        self._ahead = math.inf

    def ask_once(self) -> None:
        """
        Ask, unless the store was asked before.

        Raises:
            StoreError: The store cannot be relied upon. Nothing in it may be changed.
        """
        if not self._done:
            self.ask(thoroughly=False)

    def ask(self, *, thoroughly: bool = True) -> None:
        """
        Check that conditional writes have one winner, and that the clocks agree.

        Args:
            thoroughly: Also find out, once, what only a prune has to know.

        Raises:
            StoreError: They do not. Nothing in the store may be changed.
        """
        bucket = self._bucket
        key = f"probe/{entry_id(self._clock())}"
        try:
            bucket.create(key, b"1")
            probe = bucket.head(key)
            if probe is None or not self._keeps_to_conditions(probe):
                raise StoreError(
                    f"{bucket.name}: this store does not keep to the conditions of a write"
                    " (If-Match, If-None-Match; some do not where versioning is on), so that two"
                    " processes would undo each other's work"
                )
            if self._conditional is not None:
                self._conditional.ask_once(key)
        finally:
            self._drop(key)
        self.check_clock(probe)
        if not self._done:
            self._warn_of_versions(probe)
        if thoroughly:
            self._uploads.ask_once(key)
            self._drop_abandoned(probe.modified - bucket.tuning.probe_age)
        self._done = True

    def check_clock(self, written: Meta | None) -> None:
        """
        Compare the clock here with that of the store, by an object that was written just now.

        Raises:
            StoreError: They differ by more than the store is tuned to.
        """
        here, limit = self._clock(), self._bucket.tuning.clock_skew
        if written is None:
            return
        if abs(here - written.modified) <= limit:
            self._ahead = here - time.monotonic()
            return
        raise StoreError(
            f"{self._bucket.name}: the clock here says {moment(here):%Y-%m-%d %H:%M:%S} UTC, and"
            f" that of the store {moment(written.modified):%Y-%m-%d %H:%M:%S} UTC; with more than"
            f" {limit / 60:g} minutes between them ages mean nothing, and nothing is removed"
        )

    def knows_clock(self) -> bool:
        """Tell whether nobody has set the clock here since it was found to be right."""
        return abs(self._clock() - time.monotonic() - self._ahead) < 1

    def _keeps_to_conditions(self, probe: Meta) -> bool:
        bucket = self._bucket
        other = replace(probe, e_tag=f"{0:032x}", version=probe.version and "1")

        def ignores(old: Meta | None) -> bool:
            found = bucket.replace(old, b"3") if old else bucket.create(probe.key, b"2")
            return found is not None

        ignored = any(bucket.at_once(ignores, (None, other)))
        return not ignored and bucket.replace(probe, b"4") is not None

    def _warn_of_versions(self, probe: Meta) -> None:
        """Warn that removed objects still take room, where the bucket keeps their old versions."""
        # GCS numbers all writes, whether it keeps old versions or not.
        keeps = not self._bucket.numbers and probe.version not in (None, "null")
        if keeps and not self._versions.on:
            _log.warning(
                "%s: keeps old versions, so that what is removed takes its room until a lifecycle"
                " rule of the bucket removes those%s",
                self._bucket.name,
                f" ({self._versions.refused})" if self._versions.refused else "",
            )

    def _drop_abandoned(self, before: float) -> None:
        """Remove what processes that were killed while they asked have left."""
        for meta in self._bucket.objects("probe"):
            ours = entry_time(meta.key.removeprefix("probe/")) is not None
            if ours and meta.modified < before:
                self._drop(meta.key)

    def _drop(self, key: str) -> None:
        try:
            self._bucket.delete(key)
        except StoreError as error:
            _log.warning("left for a later prune to remove: %s", error)
