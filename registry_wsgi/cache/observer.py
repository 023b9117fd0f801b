"""The protocol of an observer, which is told of each change: for metrics, say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .collector import PruneReport

__all__ = ["Observer", "tell"]

_log = logging.getLogger("registry_wsgi")


class Observer(Protocol):
    """
    What is told of each change after it is made, and of each request after it is answered.

    Any object with these methods serves. They may be called from several threads at once. If one
    raises, that goes to the log, and what has happened stands.
    """

    def deleted(self, name: str) -> None:
        """Take note that the model *name* was moved into the trash."""

    def restored(self, name: str) -> None:
        """Take note that the model *name* was brought back."""

    def pruned(self, report: PruneReport, seconds: float, *, deleted_only: bool) -> None:
        """
        Take note of a prune that was no dry run.

        Args:
            report: What it removed.
            seconds: How long it took.
            deleted_only: Whether it left out what nobody deleted, as the one after a delete does.
        """

    def answered(self, method: str, path: str, status: int) -> None:
        """Take note of a request; *method* and *path* are as the client sent them."""


def tell(observer: Observer | None, event: Callable[[Observer], None]) -> None:
    """Tell *observer*, if there is one, of *event*; if it raises, that only goes to the log."""
    if observer is None:
        return
    try:
        event(observer)
    except Exception:  # noqa: BLE001 - whatever it is, what has happened stands
        with suppress(Exception):
            _log.exception("the observer failed")
