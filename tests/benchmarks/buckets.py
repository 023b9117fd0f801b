"""
Count the requests and the seconds of each operation on a bucket, by the number of models.

    tox -e bench -- --buckets 10000,100000

The bucket is that of ``REGISTRY_WSGI_TEST_S3``, else one of moto's; what is put there lies under a
prefix of its own and is removed in the end. A page of a listing is a request.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import obstore
import pytest
from botocore.client import BaseClient

from benchmarks.trees import blob_name, blobs_of, key_of, manifest_of, name_of
from kit import s3
from kit.inside import replace_obstore
from registry_wsgi import ModelCache
from registry_wsgi.stores.bucket import ObjectStore

_MONTH = 30 * 86_400
_AT_ONCE = 64

#: A line of the table: how many models, what was done, requests in all and by kind, seconds.
Line = tuple[str, str, str, str, str]


def measure(sizes: Sequence[int]) -> Iterator[Line]:
    """Measure over buckets of so many models; a tenth as many blobs are needed by none."""
    yield "models", "what", "requests", "seconds", "by kind"
    for size in sizes:
        client = s3.endpoint().client(s3.fresh_prefix())
        asyncio.run(_fill(client, size))
        for what, step in _steps(client, size):
            with _counted() as requests:
                begun = time.perf_counter()
                step()
                seconds = time.perf_counter() - begun
            kinds = ", ".join(f"{count} {kind}" for kind, count in requests.most_common())
            yield f"{size:,}", what, f"{requests.total():,}", f"{seconds:.2f}", kinds


def _steps(client: Any, size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    name, unneeded = name_of(size // 2), size // 10
    month = _cache(client, _MONTH)
    yield "prune, the first", month.prune
    yield "prune, nothing has changed", month.prune
    yield "delete", lambda: month.unlink(name)
    yield "delete once more", lambda: month.unlink(name_of(size // 2 + 1))
    yield "the prune after it", lambda: month.prune(deleted_only=True)
    yield "restore", lambda: month.restore(name)
    yield "prune, three have changed", month.prune
    names = [f"blobs/{blob_name(-1 - number)}" for number in range(unneeded)]
    asyncio.run(_put(client, ((key, b"x") for key in names)))
    yield f"prune that marks {unneeded:,} blobs", month.prune
    yield "prune that finds them marked", month.prune
    yield "prune that holds them", month.prune
    later = _cache(client, 2 * _MONTH)
    yield f"prune that removes {unneeded:,} blobs", later.prune


def _cache(client: Any, ahead: float) -> ModelCache:
    return ModelCache(ObjectStore(client, name="bucket"), clock=lambda: time.time() + ahead)


async def _fill(client: Any, size: int) -> None:
    def objects() -> Iterator[tuple[str, bytes]]:
        for model in range(size):
            for name in blobs_of(model):
                yield f"blobs/{name}", b"x"  # what is empty may be a tombstone, and is looked at
            yield f"manifests/{key_of(model)}", manifest_of(model, 1)

    await _put(client, objects())


async def _put(client: Any, objects: Iterable[tuple[str, bytes]]) -> None:
    rest = iter(objects)

    async def put() -> None:
        for key, data in rest:
            await obstore.put_async(client, key, data, use_multipart=False)

    await asyncio.gather(*(put() for _ in range(_AT_ONCE)))


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count the requests of what is done meanwhile, by kind."""
    requests: Counter[str] = Counter()

    def pages(listing: Iterable[Any]) -> Iterator[Any]:
        requests["list"] += 1
        for number, page in enumerate(listing):
            requests["list"] += number > 0
            yield page

    def wrap(kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(obstore, kind)(*arguments, **options)
            if kind == "list":
                return pages(result)
            requests["list" if kind == "list_with_delimiter" else kind] += 1
            return result

        return call

    kinds = ("copy", "delete", "get", "head", "list", "list_with_delimiter", "put")

    def through_botocore(*arguments: Any) -> Any:
        requests["others"] += 1
        return call_api(*arguments)

    call_api = BaseClient._make_api_call
    with pytest.MonkeyPatch.context() as patch:
        replace_obstore(patch, SimpleNamespace(**{kind: wrap(kind) for kind in kinds}))
        patch.setattr(BaseClient, "_make_api_call", through_botocore)
        yield requests
