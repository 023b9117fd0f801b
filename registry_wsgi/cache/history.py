"""
The history: who changed what in a store, and when.

It is for people who ask where a model has gone. Nothing else depends on it: a line that cannot be
written is left out, and the change stands.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from ..durations import moment
from ..errors import StoreError
from ..stores.base import HistoryStore, Store
from .results import DeletedModel

__all__ = [
    "Change",
    "acting",
    "actor",
    "add_deleters",
    "is_prune_noted",
    "note_change",
    "read_history",
]

_log = logging.getLogger("registry_wsgi")

# How many names a change has at most, and how many characters a text, so that a line stays short.
_MOST_NAMES = 20
_MOST_CHARACTERS = 1_000

# How often a prune that removed nothing is noted, in seconds: so that the time of the last prune is
# known, and a prune of every day is noted every day, whenever exactly it begins.
_OFTEN = 43_200.0

_actor: ContextVar[tuple[str | None, str | None]] = ContextVar(
    "registry_wsgi_actor", default=(None, None)
)


@dataclass(frozen=True, slots=True)
class Change:
    """
    One change of a store.

    Attributes:
        when: When it was made (UTC), by the clock of the cache that made it.
        action: ``delete``, ``evict`` (a delete by `registry_wsgi.ModelCache.evict`), ``restore``,
            ``forget``, ``expire`` (the removal of what has expired in the trash, after a delete),
            ``prune``, ``repair``, ``protect`` or ``unprotect``.
        names: The full names of the models, at most twenty; for ``protect`` and ``unprotect`` the
            pattern.
        models: How many models these are.
        bytes: The size of the model that was deleted, or how many bytes were freed.
        user: Who made it; None if that is not known.
        source: From where: ``HTTP`` and the address of the client; or the name of the machine after
            ``CLI``, or after ``serve`` for its own prunes. None if that is not known.
        id: That of the `~registry_wsgi.cache.results.DeletedModel`, for what goes into the trash.
    """

    when: datetime
    action: str
    names: tuple[str, ...] = ()
    models: int = 0
    bytes: int = 0
    user: str | None = None
    source: str | None = None
    id: str | None = None


@contextmanager
def acting(user: str | None = None, source: str | None = None) -> Iterator[None]:
    """
    Say who makes the changes of this thread, or of this task, for the history.

    The middleware and the command line do so by themselves.

    Args:
        user: Who; None: that is not known.
        source: From where, in words; None: that is not known.
    """
    token = _actor.set((user, source))
    try:
        yield
    finally:
        _actor.reset(token)


def actor() -> tuple[str | None, str | None]:
    """Tell who makes the changes of this thread, and from where, as `acting` has it."""
    return _actor.get()


def note_change(
    store: Store,
    when: float,
    action: str,
    names: Iterable[str],
    *,
    models: int = 0,
    size: int = 0,
    entry: str | None = None,
) -> None:
    """Note a change in the history of *store*, if it keeps one. Whatever fails is only logged."""
    append = getattr(store, "append_history", None)  # in a tenth of the time of `isinstance`
    if append is None:
        return
    user, source = actor()
    fields = {
        "when": when,
        "action": action,
        "names": [name[:_MOST_CHARACTERS] for name in islice(names, _MOST_NAMES)],
        "models": models,
        "bytes": size,
        "user": user and user[:_MOST_CHARACTERS],
        "source": source and source[:_MOST_CHARACTERS],
        "id": entry,
    }
    try:
        append(json.dumps({key: some for key, some in fields.items() if some}))
    except Exception as error:  # noqa: BLE001 - whatever it is, the change stands
        _log.info("not in the history: %s", error)


def is_prune_noted(store: Store, now: float) -> bool:
    """
    Tell whether a prune is noted within half a day of *now*, so that one more says nothing new.

    A server may prune every few minutes, and most prunes remove nothing.
    """
    try:
        prunes = (change for change in read_history(store) if change.action == "prune")
        return any(abs(now - change.when.timestamp()) < _OFTEN for change in prunes)
    except StoreError as error:
        _log.info("not known when the last prune was: %s", error)
        return False


def read_history(store: Store) -> list[Change]:
    """List the changes in the history of *store*, the latest first; none if it keeps none."""
    if not isinstance(store, HistoryStore):
        return []
    return [change for line in reversed(store.history()) if (change := _parse(line))]


def add_deleters(store: Store, models: Iterable[DeletedModel]) -> list[DeletedModel]:
    """Add to deleted *models* who deleted each, as far as the history of *store* knows."""
    try:
        known = {change.id: change for change in read_history(store) if change.id}
    except StoreError as error:
        _log.info("not known who deleted what: %s", error)
        known = {}
    return [
        replace(model, user=change.user, source=change.source)
        if (change := known.get(model.id))
        else model
        for model in models
    ]


def _parse(line: str) -> Change | None:
    """Read one line; None if it is none of ours, or broken."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(fields, dict) and isinstance(fields.get("action"), str)):
        return None
    when, names = fields.get("when"), fields.get("names", [])
    if not isinstance(when, (int, float)) or not isinstance(names, list):
        return None
    return Change(
        moment(when),
        fields["action"],
        tuple(name for name in names if isinstance(name, str)),
        _number(fields.get("models")),
        _number(fields.get("bytes")),
        *(_text(fields.get(key)) for key in ("user", "source", "id")),
    )


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
