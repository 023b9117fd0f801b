"""
The removal that is under way: each process that has the store can tell how far it is.

Nothing depends on it. What cannot be shown, as the disk is full, say, is left out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import StoreError
from ..stores.base import Store, WorkStore
from .collector import Progress
from .history import actor

__all__ = ["Work", "read_work", "shown"]

_log = logging.getLogger("registry_wsgi")

# A removal shows when it has taken so long, and anew so often, in seconds. Most are over before.
_SOON = 1.0
_OFTEN = 0.5

_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Work:
    """
    A removal that is under way, by whatever process: a prune, a ``forget``, a part of an eviction.

    Attributes:
        what: What is being done. Empty: that is not known.
        done: How much of it is done.
        total: How much there is; None if that is not known.
        user: Who does it; None if that is not known.
        source: From where, as in `registry_wsgi.cache.history.Change`.
    """

    what: str = ""
    done: int = 0
    total: int | None = None
    user: str | None = None
    source: str | None = None


@contextmanager
def shown(store: Store, progress: Progress | None) -> Iterator[Progress | None]:
    """Make a hook that tells *progress*, and shows the same to whoever else has *store*."""
    show_work = getattr(store, "show_work", None)  # in a tenth of the time of `isinstance`
    if show_work is None:
        yield progress
        return
    who = dict(zip(("user", "source"), actor(), strict=True))
    who = {key: text[:_MOST_CHARACTERS] for key, text in who.items() if text}
    due = time.monotonic() + _SOON
    with show_work() as show:

        def hook(what: str, done: int, total: int | None) -> None:
            nonlocal due
            if time.monotonic() >= due:
                line = json.dumps({"what": what, "done": done, "total": total, **who})
                try:
                    show(line)
                except Exception as error:  # noqa: BLE001 - whatever it is, the removal goes on
                    _log.debug("not shown how far it is: %s", error)
                due = time.monotonic() + _OFTEN
            if progress is not None:
                progress(what, done, total)

        yield hook


def read_work(store: Store) -> Work | None:
    """Tell which removal of *store* is under way; None if there is none, or it does not show."""
    if not isinstance(store, WorkStore):
        return None
    try:
        line = store.work()
    except StoreError as error:
        _log.debug("not known what is under way: %s", error)
        return None
    return None if line is None else _parse(line)


def _parse(line: str) -> Work:
    """Read a line; one that is broken tells that there is work, and no more."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return Work()
    if not isinstance(fields, dict):
        return Work()
    what, user, source = (fields.get(key) for key in ("what", "user", "source"))
    done, total = (fields.get(key) for key in ("done", "total"))
    return Work(
        what[:_MOST_CHARACTERS] if isinstance(what, str) else "",
        done if type(done) is int and done > 0 else 0,
        total if type(total) is int and total > 0 else None,
        user[:_MOST_CHARACTERS] if isinstance(user, str) else None,
        source[:_MOST_CHARACTERS] if isinstance(source, str) else None,
    )
