"""Caches whose clock is ahead, so that no test has to wait."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry_wsgi import DiskStore, ModelCache

DAY = timedelta(days=1)


def later(root: Path, passed: timedelta = timedelta(), **options: Any) -> ModelCache:
    """Open the models directory *root*, when so much time has *passed*."""
    seconds = passed.total_seconds()
    return ModelCache(DiskStore(root), clock=lambda: time.time() + seconds, **options)
