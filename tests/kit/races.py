"""Threads and processes that work on one store at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.errors import ModelExistsError, ModelNotFoundError

_T = TypeVar("_T")


def race(*steps: Callable[[], _T]) -> list[_T]:
    """Take all *steps* at once, each in a thread of its own; what each gave."""
    start = threading.Barrier(len(steps))

    def take(step: Callable[[], _T]) -> _T:
        start.wait()
        return step()

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(take, steps))


def hammer(root: str, names: list[str], seed: int, steps: int) -> tuple[int, int]:
    """Delete and restore models at random; how many deletes and restores there were."""
    cache = ModelCache(DiskStore(root))
    choice = random.Random(seed)
    deletes = restores = 0
    for _ in range(steps):
        name = choice.choice(names)
        if choice.random() < 0.5:
            deletes += cache.unlink(name)
        else:
            try:
                cache.restore(name)
                restores += 1
            except (ModelExistsError, ModelNotFoundError):
                pass
    return deletes, restores
