"""What each of several processes does at once to the models of one directory."""

from __future__ import annotations

import random

from registry_wsgi import DiskStore, ModelCache
from registry_wsgi.errors import ModelExistsError, ModelNotFoundError


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
