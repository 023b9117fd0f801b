"""The same for a bucket, that of obstore in memory: each request is a step, times are virtual."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache as cached
from types import SimpleNamespace
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from explore.seam import START, Turns
from kit.inside import one_request_at_a_time, replace_obstore
from registry_wsgi.stores.bucket import ObjectStore, Tuning

#: A bucket as it is at some moment: of each object the key, the content, and when it was written.
Mould = list[tuple[str, bytes, int]]

#: The requests that change something.
CHANGES = frozenset({"put", "copy", "delete"})


@cached
def accessed(step: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Tell what a request reads or changes, and what of that it changes: objects and listings."""
    name, *keys = step
    parts = [key.split("/") for key in keys]
    listings = {"L" + "/".join(some[:end]) for some in parts for end in range(len(some))}
    touched = {f"L{key}" if name.startswith("list") else f"K{key}" for key in keys}
    changed = touched | listings if name in CHANGES else set()
    return frozenset(touched | changed), frozenset(changed)


class Bucket:
    """
    A bucket in memory whose requests are steps.

    Attributes:
        now: The time, in nanoseconds.
        root: What it is called.
    """

    root = "bucket"

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.now = START
        self.client = MemoryStore()
        # Of each object, when it was written and what its ETag is called, and what that really is.
        self.written: dict[str, tuple[int, str, str]] = {}

    def clock(self) -> float:
        """Tell the time in seconds."""
        self.turns.saw(self.now)
        return self.now / 1e9

    def store(self) -> ObjectStore:
        """Open the bucket as a process of its own does."""
        tuning = Tuning(poll=4)  # whoever waits for another looks twice
        return ObjectStore(self.client, name=self.root, clock=self.clock, tuning=tuning)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Come between the library and obstore, and give the library the virtual time."""
        names = ("head", "get", "put", "copy", "delete", "list", "list_with_delimiter")
        requests = SimpleNamespace(**{name: getattr(self, f"_{name}") for name in names})
        with pytest.MonkeyPatch.context() as patch:
            replace_obstore(patch, requests)
            one_request_at_a_time(patch)
            patch.setattr(os, "urandom", self.turns.random)
            patch.setattr(time, "time", self.clock)
            patch.setattr(time, "monotonic", self.clock)
            patch.setattr(time, "sleep", self.turns.sleep)
            yield

    # Requests

    def _told(self, step: str, *keys: str, do: Callable[[], Any]) -> Any:
        """Come to a request, make it, and tell what came of it."""
        self.turns.step(step, *keys)
        try:
            found = do()
        except Exception as error:
            self.turns.saw(type(error).__name__)
            raise
        return found

    def _meta(self, key: str, meta: Any) -> dict[str, Any]:
        when, e_tag, _ = self.written[key]
        self.turns.saw((key, when, e_tag))
        modified = datetime.fromtimestamp(when / 1e9, UTC)
        return {**meta, "last_modified": modified, "e_tag": e_tag}

    def _head(self, _: Any, key: str) -> Any:
        return self._told("head", key, do=lambda: self._meta(key, obstore.head(self.client, key)))

    def _get(self, _: Any, key: str) -> Any:
        def read() -> Any:
            found = obstore.get(self.client, key)
            meta, attributes, data = self._meta(key, found.meta), found.attributes, found.bytes()
            self.turns.saw(bytes(data))
            return SimpleNamespace(
                meta=meta,
                attributes=attributes,
                bytes=lambda: data,
                stream=lambda min_chunk_size: iter([data]),
            )

        return self._told("get", key, do=read)

    def _list(self, _: Any, folder: str, offset: str | None = None, **options: Any) -> Any:
        def read() -> list[Any]:
            pages = obstore.list(self.client, folder, offset=offset)
            found = [meta for page in pages for meta in page]
            found.sort(key=lambda meta: meta["path"])
            self.turns.saw(len(found))
            return [[self._meta(meta["path"], meta) for meta in found]]

        yield from self._told("list", folder, do=read)

    def _list_with_delimiter(self, _: Any, folder: str) -> Any:
        def read() -> Any:
            found = obstore.list_with_delimiter(self.client, folder)
            folders = sorted(found["common_prefixes"])
            self.turns.saw(tuple(folders))
            metas = [self._meta(meta["path"], meta) for meta in found["objects"]]
            return {"common_prefixes": folders, "objects": metas}

        return self._told("list_with_delimiter", folder, do=read)

    def _put(self, _: Any, key: str, data: Any, *, mode: Any = None, **options: Any) -> Any:
        def write() -> Any:
            real = mode
            if isinstance(mode, dict):
                *_, called, e_tag = self.written.get(key, (0, "", ""))
                real = {"e_tag": e_tag if mode["e_tag"] == called else '"another"'}
            return self._wrote(key, obstore.put(self.client, key, data, mode=real, **options))

        return self._told("put", key, do=write)

    def _wrote(self, key: str, result: Any) -> Any:
        called = f'"{self.turns.new_name()}"'
        self.written[key] = self.now, called, result["e_tag"]
        self.turns.did("put", key)
        return {**result, "e_tag": called}

    def _copy(self, _: Any, source: str, target: str) -> None:
        def write() -> None:
            obstore.copy(self.client, source, target)
            self._wrote(target, obstore.head(self.client, target))

        self._told("copy", source, target, do=write)

    def _delete(self, _: Any, keys: Any) -> None:
        keys = [keys] if isinstance(keys, str) else list(keys)

        def remove() -> None:
            obstore.delete(self.client, keys)
            for key in keys:
                self.written.pop(key, None)
            self.turns.did("delete", *keys)

        self._told("delete", *keys, do=remove)

    # What other programs do

    def has(self, key: str) -> bool:
        """Look whether there is an object at *key*."""
        try:
            self._head(None, key)
        except FileNotFoundError:
            return False
        return True

    def write(self, key: str, data: bytes) -> None:
        """Write an object, whatever is there."""
        self._put(None, key, data)

    # The whole bucket

    def objects(self, folder: str) -> dict[str, bytes]:
        """All objects below *folder*, by what follows that in their keys; no actor sees this."""
        pages = obstore.list(self.client, folder)
        keys = sorted(meta["path"] for page in pages for meta in page)
        read = {key: bytes(obstore.get(self.client, key).bytes()) for key in keys}
        return {key.removeprefix(f"{folder}/"): data for key, data in read.items()}

    def put(self, key: str, data: bytes, when: int) -> None:
        """Have an object that was written at the moment *when*."""
        result = obstore.put(self.client, key, data)
        self.written[key] = when, f'"{key} {when}"', str(result["e_tag"])

    def snapshot(self) -> Mould:
        """All there is."""
        return [(key, data, self.written[key][0]) for key, data in self.objects("").items()]

    def cast(self, mould: Mould) -> None:
        """Have nothing but what *mould* has, which `snapshot` gave."""
        self.client, self.now = MemoryStore(), START
        self.written.clear()
        for key, data, when in mould:
            self.put(key, data, when)
