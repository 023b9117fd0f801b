"""
Count the requests and the seconds of each operation on a bucket, by the number of models.

    tox -e bench -- --buckets 10000,100000
    tox -e bench -- --buckets 1000,10000 --delays 0,20,100

With a delay each request takes so many milliseconds longer, as over a network of that round trip.
The bucket is that of ``REGISTRY_WSGI_TEST_S3``, else one of moto's; what is put there lies under a
prefix of its own and is removed in the end. A page of a listing is a request.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
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

#: A line of the table: how many models, the delay, what was done, requests in all and by kind, and
#: seconds.
Line = tuple[str, str, str, str, str, str]


def measure(sizes: Sequence[int], delays: Sequence[float] = (0,)) -> Iterator[Line]:
    """
    Measure over buckets of so many models; a tenth as many blobs are needed by none.

    Args:
        sizes: How many models.
        delays: How much longer each request takes, in milliseconds.
    """
    yield "models", "delay", "what", "requests", "seconds", "by kind"
    for size, delay in product(sizes, delays):
        client = s3.endpoint().client(s3.fresh_prefix())
        asyncio.run(_fill(client, size))
        for what, step in _steps(client, size):
            with _counted(delay / 1_000) as requests:
                begun = time.perf_counter()
                step()
                seconds = time.perf_counter() - begun
            kinds = ", ".join(f"{count} {kind}" for kind, count in requests.most_common())
            many = f"{requests.total():,}"
            yield f"{size:,}", f"{delay:g} ms", what, many, f"{seconds:.2f}", kinds


def _steps(client: Any, size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    name, unneeded = name_of(size // 2), size // 10
    month = _cache(client, _MONTH)
    yield "prune, the first", month.prune
    yield "prune, nothing has changed", month.prune
    # Each by a cache of its own, as each command is a process of its own.
    yield "list", lambda: _cache(client, 0).models()
    yield "verify", lambda: _cache(client, 0).verify()
    yield "df", lambda: _cache(client, 0).space()
    yield "orphans", lambda: _cache(client, 0).orphans()
    yield "delete, the first of a process", lambda: _cache(client, _MONTH).unlink(name_of(0))
    yield "delete", lambda: month.unlink(name)
    yield "delete once more", lambda: month.unlink(name_of(size // 2 + 1))
    yield "the prune after it", lambda: month.prune(deleted_only=True)
    yield "deleted", lambda: _cache(client, 0).deleted()
    yield "restore", lambda: month.restore(name)
    yield "forget", lambda: month.forget(name_of(0))
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
def _counted(delay: float) -> Iterator[Counter[str]]:
    """Count the requests of what is done meanwhile, by kind; each takes *delay* seconds longer."""
    requests: Counter[str] = Counter()

    def pages(listing: Iterable[Any]) -> Iterator[Any]:
        requests["list"] += 1
        time.sleep(delay)
        for number, page in enumerate(listing):
            if number:
                requests["list"] += 1
                time.sleep(delay)
            yield page

    def wrap(kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(obstore, kind)(*arguments, **options)
            if kind == "list":
                return pages(result)
            requests["list" if kind == "list_with_delimiter" else kind] += 1
            time.sleep(delay)
            return result

        return call

    kinds = ("copy", "delete", "get", "head", "list", "list_with_delimiter", "put")

    def through_botocore(*arguments: Any) -> Any:
        requests["others"] += 1
        time.sleep(delay)
        return call_api(*arguments)

    call_api = BaseClient._make_api_call
    with pytest.MonkeyPatch.context() as patch:
        replace_obstore(patch, SimpleNamespace(**{kind: wrap(kind) for kind in kinds}))
        patch.setattr(BaseClient, "_make_api_call", through_botocore)
        yield requests
