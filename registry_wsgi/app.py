"""The middleware, put together from the settings: the one place where all the rooms meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .cache import Cache
from .cache.evict_plan import Quota
from .cache.opening import cache_from
from .errors import ConfigurationError
from .http.authorization import Authorize, all_of, bearer_token, trusted_hosts
from .http.middleware import LocalRegistry
from .http.origins import Origins
from .settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["build_app", "check_settings", "create_app"]


def create_app() -> LocalRegistry:
    """
    Make a WSGI app from the environment alone, for ``gunicorn "registry_wsgi:create_app()"``.

    The variables are those of `registry_wsgi.settings`. There is no app behind it: paths other than
    ``/api/delete``, and those that the settings add, are answered 404.

    Raises:
        ConfigurationError: A variable cannot be used; the message names it.
    """
    return build_app(Settings.read())


def build_app(
    settings: Settings,
    app: WSGIApplication | None = None,
    *,
    cache: Cache | None = None,
    authorize: Authorize | None = None,
) -> LocalRegistry:
    """
    Make the middleware that *settings* describe.

    Args:
        settings: The settings.
        app: The WSGI app to wrap; None: there is none.
        cache: Where the models are; None: the settings say it.
        authorize: Asked whether a client may do something, after what the settings say.

    Raises:
        ConfigurationError: A setting cannot be used; the message names it.
    """
    _check_what_is_served(settings)
    checks = [check for check in (_authorization(settings), authorize) if check is not None]
    return LocalRegistry(
        app,
        cache_from(settings) if cache is None else cache,
        prune=settings.prune,
        authorize=all_of(*checks) if checks else None,
        maintenance=settings.maintenance,
        evict=settings.evict(),
        origins=settings.origins,
        page=settings.page,
    )


def check_settings(settings: Settings) -> None:
    """
    Make sure that `build_app` can use *settings*, but for the models themselves.

    What would be a traceback in each worker of a server is one line then, before it starts.

    Raises:
        ConfigurationError: One of them cannot be used; the message names it.
    """
    _authorization(settings)
    _check_what_is_served(settings)


def _check_what_is_served(settings: Settings) -> None:
    with _named(settings, "origins"):
        Origins(settings.origins)
    if settings.page is not None:
        from .http.page.access import check_path  # noqa: PLC0415 - most have no use for it

        with _named(settings, "page"):
            check_path(settings.page)
    limits = settings.evict()
    if settings.maintenance and limits is not None:
        Quota.of(**limits).check()


def _authorization(settings: Settings) -> Authorize | None:
    """
    Make the check of who may delete; None: the settings do not say, so anyone may.

    Raises:
        ConfigurationError: A token, their file or a host cannot be used; the message names it.
    """
    checks = []
    # The host is checked first, so that a request to another host is not told to send a token.
    if settings.trusted_hosts:
        with _named(settings, "trusted_hosts"):
            checks.append(trusted_hosts(*settings.trusted_hosts))
    if settings.tokens or settings.token_file:
        with _named(settings, "tokens" if settings.tokens else "token_file"):
            checks.append(bearer_token(*settings.tokens, file=settings.token_file))
    return all_of(*checks) if checks else None


@contextmanager
def _named(settings: Settings, field: str) -> Iterator[None]:
    """Let an error say which setting is wrong, by its variable or its name."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{settings.name_of(field)}: {error}") from error
