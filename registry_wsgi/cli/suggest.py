"""Suggesting what was meant by a name that no model has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from ..cache.manifest import mentioned_blobs
from ..cache.reading import name_of
from ..errors import InvalidNameError, escape
from ..names import Name
from ..stores.base import Manifest
from .options import Options
from .terminal import format_time, short_name

if TYPE_CHECKING:
    from ..cache.model_cache import ModelCache
    from ..cache.results import DeletedModel, Model

__all__ = ["listed", "nearest", "not_a_model"]

# How many names fit into one line.
_MOST = 5

# A digest, or the beginning of one: the ID that a list shows. The tag is that of a whole name.
_DIGEST = re.compile(r"(sha256[:-])?([0-9a-f]{4,64})(?::latest)?", re.IGNORECASE)


def not_a_model(cache: ModelCache, typed: str, models: Sequence[Model]) -> str:
    """Say that none of *models* is called *typed*, and what else that may be."""
    what = "there is no model of this name"
    hint = _digest(cache, typed, models) or _in_trash(cache, typed) or nearest(typed, models)
    return f"{short_name(typed)}: {what}{hint}"


def nearest(typed: str, models: Iterable[Model | DeletedModel]) -> str:
    """
    Ask which of *models* was meant by *typed*.

    It names those that differ only in the tag, the namespace or the host; if there are none, those
    that are spelt most alike. Empty if there are none of these either.
    """
    names = dict.fromkeys(model.name for model in models)
    shown = [name for name in names if _model(name) == _model(typed)]
    if not shown:
        by_name = {short_name(name): name for name in names}
        shown = difflib.get_close_matches(short_name(typed), by_name)
    return f"; is it {listed(shown, 'or')}?" if shown else ""


def listed(names: Iterable[str], last: str = "and") -> str:
    """Write names in a line: all of them if they are few."""
    shown = [short_name(name) for name in names]
    if len(shown) > _MOST:
        shown[_MOST - 1 :] = [f"{len(shown) - _MOST + 1:,} more"]
    return f" {last} ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def _model(name: str) -> str | None:
    try:
        return Name.parse(name).model.lower()
    except InvalidNameError:
        return None


def _digest(cache: ModelCache, typed: str, models: Sequence[Model]) -> str:
    """Say which models have *typed* as their ID, or need a blob of that digest."""
    match = _DIGEST.fullmatch(typed)
    if match is None:
        return ""
    digits = match[2].lower()
    found = [model.name for model in models if model.digest.startswith(f"sha256:{digits}")]
    if found:
        return f"; it is the ID of {listed(found)}"
    if match[1] is None:
        return ""
    users = [
        str(name_of(key) or escape(key))
        for key, manifest in cache.store.read_all()
        if isinstance(manifest, Manifest)
        if any(blob.startswith(f"sha256-{digits}") for blob in mentioned_blobs(manifest.data))
    ]
    return f"; it is a blob of {listed(users)}" if users else "; no model has a blob like this"


def _in_trash(cache: ModelCache, typed: str) -> str:
    """Say when the model *typed* was deleted, and how it comes back."""
    key = _full(typed)
    deletes = [model for model in cache.deleted() if model.name.lower() == key]
    if not deletes:
        return ""
    latest = next((model for model in deletes if model.restorable), deletes[0])
    when = f"; one was deleted at {format_time(latest.deleted)}"
    if not latest.restorable:
        return f"{when} and can no longer be restored"
    context = click.get_current_context()
    options = context.find_object(Options) or Options()
    return f"{when}, to restore it: {options.undo(context, [short_name(latest.name)])}"


def _full(typed: str) -> str:
    try:
        return str(Name.parse(typed)).lower()
    except InvalidNameError:
        return typed.lower()
