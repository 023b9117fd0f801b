"""The steps of a store, as its protocol has them, watched."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, cast

from registry_wsgi.stores.base import Store


class Watched:
    """
    A store that calls *event* before and after each step that the collector takes.

    It gets the name of the step and what it is about. Of steps that list something, it is also
    called before each item is handed out.
    """

    def __init__(self, store: Store, event: Callable[[str, object], None]) -> None:
        self._store = store
        self._event = event

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def step(*args: Any, **options: Any) -> Any:
            self._event(name, *args[:1] or (None,))
            result = method(*args, **options)
            if isinstance(result, Iterator):
                return self._items(name, result)
            self._event(f"{name} done", None)
            return result

        return step

    def _items(self, name: str, items: Iterable[Hashable]) -> Iterator[Hashable]:
        for item in items:
            self._event(f"{name} item", item)
            yield item
        self._event(f"{name} done", None)


def watched_steps(store: Store, event: Callable[[str, object], None]) -> Store:
    """Have *event* called at each step of *store*."""
    return cast("Store", Watched(store, event))
