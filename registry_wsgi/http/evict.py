"""The endpoint of ``POST /api/evict``: an eviction within the limits that the server is set to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wrappers import Response

from ..cache.evict_plan import Quota
from ..errors import ConfigurationError, InvalidDurationError, InvalidSizeError
from .answers import blocked, json_response, refused
from .maintenance import read_options
from .request import EVERYTHING, Request

__all__ = ["Evictions"]

_OPTIONS = dict.fromkeys((field.name for field in fields(Quota)), "string")


class Evictions:
    """
    The endpoint.

    Args:
        cache: Where the models are: with the method ``evict`` of `registry_wsgi.ModelCache`.
        limits: The options of that method that the server is set to.

    Raises:
        ConfigurationError: *cache* has no such method, or *limits* cannot be used.
    """

    def __init__(self, cache: Any, limits: Mapping[str, Any]) -> None:
        evict = getattr(cache, "evict", None)
        if not callable(evict):
            raise ConfigurationError(f"evict: {cache!r} has no method evict()")
        self._evict = evict
        self._limits = dict(limits)
        try:
            self._quota = Quota.of(**limits)
        except (TypeError, InvalidDurationError, InvalidSizeError) as error:
            raise ConfigurationError(f"evict: {error}") from error
        self._quota.check()

    def __call__(self, request: Request) -> Response:
        """Let models go, and answer with the report."""
        options = read_options(request.body(), {**_OPTIONS, "dry_run": "boolean"})
        request.permit("evict", EVERYTHING)
        dry_run = options.pop("dry_run", False)
        asked = self._limits | options
        try:
            tighter = Quota.of(**asked).tighter_than(self._quota)
        except (InvalidDurationError, InvalidSizeError) as error:
            raise BadRequest(str(error)) from error
        if tighter is not None:
            raise Forbidden(f"{tighter} would let go more than this server is set to")
        with blocked(), refused():
            report = asdict(self._evict(**asked, dry_run=dry_run))
        # A client is told how many failures there are, and not the paths.
        report["failed"] = len(report.pop("failures"))
        return json_response(report)
