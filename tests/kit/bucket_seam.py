"""The seam between the store of a bucket and obstore: requests, watched or made to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kit.inside import replace_obstore
from kit.kinds import BucketKind
from registry_wsgi import ModelCache


def caching(kind: BucketKind) -> ModelCache:
    """A cache over another client, by the kind's clock."""
    return ModelCache(kind.another(), clock=kind.clock)


class Seam:
    """
    Stands between a store and obstore.

    Args:
        hook: Called before each request with its name, the key, and how (the mode of a ``put``).

    Attributes:
        requests: The requests, each by its name and key. A listing is one, whatever its pages.
        pages: How many pages of listings were read.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hook: Callable[..., None]) -> None:
        import obstore

        self.requests: list[tuple[str, Any]] = []

        def wrap(name: str) -> Callable[..., Any]:
            def call(store: Any, key: Any = None, *rest: Any, **options: Any) -> Any:
                if self.active:
                    self.requests.append((name, key))
                    hook(name, key, options.get("mode"))
                found = getattr(obstore, name)(store, key, *rest, **options)
                return self._counted(found) if name == "list" else found

            return call

        names = ("copy", "delete", "get", "head", "list", "list_with_delimiter", "put")
        self.active = True
        self.pages = 0
        replace_obstore(monkeypatch, SimpleNamespace(**{n: wrap(n) for n in names}))

    def _counted(self, pages: Iterable[Any]) -> Iterator[Any]:
        for page in pages:
            self.pages += 1
            yield page
