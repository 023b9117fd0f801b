"""Opening a cache at a location, or as the settings say."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigurationError, StoreError
from ..settings import CacheSettings
from ..stores.opening import open_store
from .model_cache import ModelCache

__all__ = ["cache_from", "open_cache"]

# Where Ollama's service on Linux keeps its models.
_SERVICE = "/usr/share/ollama/.ollama/models"

_DURATIONS = ("retention", "in_flight", "hold")


def open_cache(location: str | os.PathLike[str] | None = None, **options: Any) -> ModelCache:
    """
    Open the store at *location*.

    Args:
        location: A directory, or a URL: ``file:///path``, ``s3://bucket/prefix``,
            ``gs://bucket/prefix``, ``az://account/container/prefix``, or ``memory:`` for an empty
            store in memory. None: the environment variable ``OLLAMA_MODELS``, else
            ``~/.ollama/models``, which is the rule of the Go code.
        options: Those of `registry_wsgi.ModelCache`. A duration that is not given is taken from
            the environment (see `registry_wsgi.settings`).

    Raises:
        ConfigurationError: The location or an option cannot be used; the message names it.
    """
    given = {option: options.pop(option) for option in _DURATIONS if option in options}
    if location is not None:
        given["location"] = location
    return cache_from(CacheSettings.read(**given), **options)


def cache_from(settings: CacheSettings, **options: Any) -> ModelCache:
    """
    Open the store that *settings* name.

    Args:
        settings: Where the models are, and the durations.
        options: The other options of `registry_wsgi.ModelCache`.

    Raises:
        ConfigurationError: The location or an option cannot be used; the message names it.
    """
    for option in _DURATIONS:
        value = getattr(settings, option)
        if value is not None:
            options[option] = value
    try:
        return ModelCache(open_store(settings.location), **options)
    except (StoreError, ValueError) as error:
        name, hint = settings.name_of("location"), ""
        if settings.location == CacheSettings().location:  # nobody has said where they are
            there = f", as for the models in {_SERVICE}" if os.path.isdir(_SERVICE) else ""
            hint = f"; if the models are elsewhere, {name} says where{there}"
        elif settings.location[:1] in ("'", '"'):  # of OLLAMA_MODELS they have been taken off
            hint = "; the quotes are taken for a part of the name"
        raise ConfigurationError(f"{name}: {error}{hint}") from error
    except TypeError as error:
        raise ConfigurationError(f"invalid option: {error}") from error
