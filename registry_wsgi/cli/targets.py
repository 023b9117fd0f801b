"""Which models are meant by the names and patterns that were typed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache as remember
from typing import TYPE_CHECKING

import click

from ..cache.patterns import is_pattern, matches, normalize
from ..errors import InvalidNameError, ModelNotFoundError, RegistryError, escape, quote
from ..names import Name
from .options import Options
from .suggest import nearest, not_a_model
from .terminal import short_name

if TYPE_CHECKING:
    from ..cache.model_cache import ModelCache
    from ..cache.results import DeletedModel, Model

__all__ = [
    "by_name",
    "choose_delete",
    "complete_deleted",
    "complete_models",
    "complete_protected",
    "matching",
    "named_in",
    "parse_time",
    "resolve",
    "resolve_deleted",
    "stands_for",
]


def resolve(cache: ModelCache, typed: Sequence[str]) -> list[str]:
    """
    Look up names and patterns, all of them before the first is acted on.

    Returns:
        The names of the models as the store has them, each once.

    Raises:
        InvalidNameError: A pattern has a character that no name has.
        click.UsageError: One of *typed* is neither a name nor a pattern of names.
        ModelNotFoundError: There is no model of one of the names, or none for a pattern.
    """
    models = remember(cache.models)
    found: dict[str, None] = {}
    for text in typed:
        if is_pattern(text):
            found.update(dict.fromkeys(matching(models(), text)))
        else:
            # This also finds a model that cannot be listed, as its manifest is damaged.
            try:
                name = cache.find(text)
            except InvalidNameError as error:
                raise click.UsageError(f"{error}{nearest(text, models())}") from error
            if name is None:
                raise ModelNotFoundError(not_a_model(cache, text, models()))
            found[name] = None
    return list(found)


def resolve_deleted(
    cache: ModelCache, typed: Sequence[str], since: datetime | None = None
) -> list[str]:
    """
    Look up patterns among the deleted models, and check the names.

    Args:
        cache: Where the models are.
        typed: The names and patterns.
        since: Patterns stand only for what was deleted at this time or later.

    Returns:
        The names, each once. It is not checked whether a deleted model has that name.

    Raises:
        InvalidNameError: One of *typed* is neither a name nor a pattern of names.
        ModelNotFoundError: There is no deleted model for a pattern.
    """
    deleted = remember(cache.deleted)
    found: dict[str, None] = {}
    for text in typed:
        if is_pattern(text):
            models = [model for model in deleted() if not since or model.deleted >= since]
            found.update(dict.fromkeys(matching(models, text)))
        else:
            found[_name_or_path(text, deleted)] = None
    return list(found)


def _name_or_path(text: str, deleted: Callable[[], list[DeletedModel]]) -> str:
    try:
        return str(Name.parse(text))
    except InvalidNameError:
        # A model whose name is not valid is listed under the path of its manifest.
        if any(model.name == text for model in deleted()):
            return text
        raise


def by_name(deleted: Iterable[DeletedModel]) -> Mapping[str, list[DeletedModel]]:
    """Sort the deletes by the name of the model, in lower case; any other name has none."""
    found = defaultdict(list)
    for model in deleted:
        found[model.name.lower()].append(model)
    return found


def choose_delete(deletes: Sequence[DeletedModel], name: str, at: str) -> str:
    """
    Find one of several deletes of a name.

    Args:
        deletes: The deletes of that name.
        name: The name.
        at: The id of the delete, or a time: to the minute, the second, or as exact as it is. A day
            alone stands for its last delete.

    Returns:
        The id of the delete.

    Raises:
        ModelNotFoundError: The model was not deleted then. The message says when it was.
    """
    if any(model.id == at for model in deletes):
        return at
    begin = parse_time(at)
    end = begin + _exactness(begin)
    for model in deletes:  # the latest first
        if begin <= model.deleted < end:
            return model.id
    times = ", ".join(f"{model.deleted.astimezone():%Y-%m-%d %H:%M:%S}" for model in deletes)
    message = f"{short_name(name)}: no model of this name was deleted at {escape(at)}"
    raise ModelNotFoundError(f"{message}, but at {times}" if times else message)


def _exactness(time: datetime) -> timedelta:
    """Tell how exact a time is that somebody has written."""
    if time.microsecond:
        return timedelta(microseconds=1)
    if time.second:
        return timedelta(seconds=1)
    return timedelta(minutes=1) if time.hour or time.minute else timedelta(days=1)


def parse_time(text: str) -> datetime:
    """
    Read a time, by the clock of this machine unless it says otherwise.

    Raises:
        click.BadParameter: *text* is no time.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (OverflowError, ValueError) as error:
        raise click.BadParameter(f"{quote(text)} is not a time") from error


def matching(models: Iterable[Model | DeletedModel], pattern: str) -> list[str]:
    """
    Find those of *models* that *pattern* stands for (see `registry_wsgi.cache.patterns`).

    Raises:
        InvalidNameError: *pattern* has a character that no name has.
        ModelNotFoundError: It stands for none of them.
    """
    kept = normalize(pattern)
    found = [model.name for model in models if stands_for(kept, model.name)]
    if not found:
        raise ModelNotFoundError(f"{quote(pattern)}: nothing matches")
    return found


def stands_for(pattern: str, name: str) -> bool:
    """Tell whether *pattern*, which `normalize` gave, stands for the model listed as *name*."""
    try:
        return matches(Name.parse(name), pattern)
    except InvalidNameError:  # patterns are of names, and this is the path of a manifest
        return False


def named_in(typed: Sequence[str]) -> Callable[[Iterable[str]], bool]:
    """
    Make a test of names: whether one of the names and patterns *typed* stands for one of them.

    The names may be patterns, too, as those that protect. Without *typed* the test is always true.

    Raises:
        InvalidNameError: One of *typed* is neither a name nor a pattern of names.
    """
    patterns = [normalize(text) for text in typed]

    def test(names: Iterable[str]) -> bool:
        return not patterns or any(
            pattern == name or stands_for(pattern, name) for name in names for pattern in patterns
        )

    return test


def _complete(look: Callable[[ModelCache], Iterable[str]]) -> Callable[..., list[str]]:
    """Complete a name by those that *look* finds."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        del parameter
        options = context.find_object(Options) or Options()
        try:
            names = list(look(options.cache()))
        except (RegistryError, click.ClickException, OSError):
            return []
        return [name for name in names if name.lower().startswith(typed.lower())]

    return complete


complete_models = _complete(lambda cache: [short_name(model.name) for model in cache.models()])
complete_deleted = _complete(lambda cache: [short_name(model.name) for model in cache.deleted()])
complete_protected = _complete(lambda cache: cache.protected())
