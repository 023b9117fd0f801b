"""What Django reads when ``"registry_wsgi"`` is in ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

__all__ = ["RegistryConfig"]


class RegistryConfig(AppConfig):  # type: ignore[misc]  # Django ships no types
    """The app, which has a command and a system check, and no models of the database."""

    name = "registry_wsgi"
    verbose_name = "Local models"

    def ready(self) -> None:
        """Register the system check."""
        from .django import check_settings  # noqa: PLC0415 - it needs the settings

        register(check_settings)
