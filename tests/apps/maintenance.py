"""The maintenance API over $OLLAMA_MODELS; a prune notes in $NOTES that it waits for $SIGNAL."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from apps.helpers import JSONLines, note, wait
from registry_wsgi import DiskStore, LocalRegistry, ModelCache


class Waiting(DiskStore):
    """A store whose blobs are listed when the test says so."""

    def blobs(self) -> Iterator[str]:
        note(os.environ["NOTES"], "waiting")
        wait(os.environ["SIGNAL"])
        return super().blobs()


logger = logging.getLogger("registry_wsgi")
logger.setLevel(logging.INFO)
logger.addHandler(JSONLines(os.environ["LOG"]))

app = LocalRegistry(None, ModelCache(Waiting(os.environ["OLLAMA_MODELS"])), maintenance=True)
