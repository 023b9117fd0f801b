"""A models directory that was copied from a bucket, with what a killed delete had left there."""

from __future__ import annotations

from pathlib import Path

from kit import inside
from kit.clocks import Clock
from kit.kinds import BucketKind, DiskKind
from registry_wsgi import ModelCache

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "registry.ollama.ai/library/other/latest"


def test_a_tombstone_counts_as_nothing_on_a_disk(tmp_path: Path) -> None:
    """It is no model there either, and stops no prune; a model of that name can be pulled again."""
    bucket = BucketKind(tmp_path, Clock())
    bucket.put(OTHER, b"other")
    bucket.put(KEY, b"weights")
    inside.leave_tombstone(bucket.another(), f"manifests/{KEY}")
    disk = DiskKind(tmp_path, Clock())
    for page in bucket.client.list():
        for meta in page:
            path = disk.tree.root / meta["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(bucket.client.get(meta["path"]).bytes()))
    cache = ModelCache(disk.store)
    assert [model.name for model in cache.models()] == ["registry.ollama.ai/library/other:latest"]
    cache.prune()
    assert cache.prune(age=0).blobs == 1
    assert cache.verify(deep=True).ok
    disk.put(KEY, b"weights")
    assert len(cache.models()) == 2
