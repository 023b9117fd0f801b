"""
Settings and checks for a Django project.

The dictionary ``REGISTRY_WSGI`` in ``settings.py`` has the settings of `registry_wsgi.settings`,
each under the name of its attribute in `registry_wsgi.settings.Settings`, in capital letters. What
it leaves out comes from the environment. With ``"registry_wsgi"`` in ``INSTALLED_APPS`` a system
check says what is wrong with it, and the commands of ``manage.py registry`` go by it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from .app import build_app
from .app import check_settings as check
from .cache.opening import cache_from
from .errors import ConfigurationError
from .http.authorization import Authorize
from .http.middleware import LocalRegistry
from .settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["check_settings", "given_settings", "name_in_settings", "wrap"]

_NAME = "REGISTRY_WSGI"
_KEYS = {
    field.name.upper(): field.name
    for field in dataclasses.fields(Settings)
    if "variable" in field.metadata
}


def wrap(app: WSGIApplication, *, authorize: Authorize | None = None) -> LocalRegistry:
    """
    Wrap the *app* that ``get_wsgi_application()`` returns, as ``REGISTRY_WSGI`` says.

    Args:
        app: The WSGI app of the project.
        authorize: As for `registry_wsgi.LocalRegistry`. Where ``REGISTRY_WSGI`` says who may
            delete, too, both have to agree.

    Raises:
        ConfigurationError: A setting cannot be used; the message names it.
    """
    return build_app(_settings(), app, authorize=authorize)


def _settings() -> Settings:
    return Settings.read(None, name_in_settings, **given_settings())


def given_settings() -> dict[str, Any]:
    """
    Take ``REGISTRY_WSGI`` from the settings of the project.

    Returns:
        The values, by the names of the attributes of `registry_wsgi.settings.Settings`.

    Raises:
        ConfigurationError: It is no dictionary, or has an unknown key.
    """
    values = getattr(django_settings, _NAME, {})
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{_NAME}: must be a dictionary")
    for key in values:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key).upper(), _KEYS, 1)
            hint = f"is it {near[0]}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise ConfigurationError(f"{_NAME}[{key!r}]: there is no such setting; {hint}")
    return {_KEYS[key]: value for key, value in values.items()}


def name_in_settings(field: str) -> str:
    """Write what is called *field* in `registry_wsgi.settings.Settings` as in ``settings.py``."""
    return f"{_NAME}[{field.upper()!r}]"


def check_settings(app_configs: Sequence[Any] | None = None, **options: Any) -> list[CheckMessage]:
    """
    Find what is wrong with ``REGISTRY_WSGI``, for Django's system checks.

    Returns:
        ``registry_wsgi.E001``, an error, for a wrong key or value. ``registry_wsgi.W001``, a
        warning, if the models directory cannot be opened: where the check runs, there may be none.
        A bucket is not asked.
    """
    del app_configs, options
    try:
        settings = _settings()
        check(settings)
    except ConfigurationError as error:
        return [Error(str(error), id="registry_wsgi.E001")]
    if "://" not in settings.location:
        try:
            cache_from(settings)
        except ConfigurationError as error:
            hint = f"{name_in_settings('location')} or OLLAMA_MODELS says where the models are."
            return [Warning(str(error), hint=hint, id="registry_wsgi.W001")]
    return []
