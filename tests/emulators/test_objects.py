"""Buckets as real stores have them: with versioning, gone, or with few permissions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kit import azurite, inside, s3
from kit.clocks import Clock
from kit.kinds import KINDS, AzureKind
from kit.requirements import require
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEY = "registry.ollama.ai/library/smol/latest"


def test_a_bucket_with_versioning_works_or_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Its old versions are looked after; a store that cannot do it there says so."""
    require("boto3", "obstore")
    import boto3

    from registry_wsgi.stores.bucket import ObjectStore

    endpoint = s3.endpoint()
    name = f"registry-wsgi-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id=endpoint.key,
        aws_secret_access_key=endpoint.secret,
    )
    client.create_bucket(Bucket=name)
    try:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.put_object(Bucket=name, Key=f"manifests/{KEY}", Body=b'{"layers": []}')
        config: dict[str, Any] = endpoint.config
        cache = ModelCache(ObjectStore.from_url(f"s3://{name}", **config))
        try:
            assert cache.unlink("smol") is True
        except StoreError as error:
            assert "some do not where versioning is on" in str(error)
            assert [str(model) for model in cache.models()] == [
                "registry.ollama.ai/library/smol:latest"
            ]
        else:
            assert cache.store.sets_aside
            assert "keeps old versions" not in caplog.text  # as of those that nobody removes
            assert cache.restore("smol")
    finally:
        found = client.list_object_versions(Bucket=name)
        for version in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
            client.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
        client.delete_bucket(Bucket=name)
        client.close()


@pytest.mark.parametrize("where", ["s3", "azure"])
def test_a_bucket_that_is_gone_is_no_empty_bucket(where: str) -> None:
    """Objects cannot be read, written or removed there, and do not count as absent."""
    require("obstore")
    place: Any = (
        replace(s3.endpoint(), bucket="no-such-bucket")
        if where == "s3"
        else replace(azurite.account(), container="no-such-container")
    )
    bucket = inside.bucket_class()(place.client("x"), "bucket")
    steps: list[Callable[[], object]] = [
        lambda: bucket.get("key"),
        lambda: bucket.open("key"),
        lambda: bucket.create("key", b"x"),
        lambda: bucket.replace(inside.object_meta("key"), b"x"),
        lambda: bucket.delete("key"),
        lambda: bucket.folder("manifests"),
        lambda: list(bucket.objects("manifests")),
    ]
    for step in steps:
        with pytest.raises(StoreError, match=r"^bucket/.*: there is no such (bucket|container) "):
            step()


@pytest.mark.parametrize("allowed", ["rwdl", "rwl"])
def test_the_permissions_that_are_documented_are_enough(tmp_path: Path, allowed: str) -> None:
    """With them a token does all there is to do, and without the last the error says so."""
    kind = KINDS["azure"](tmp_path, Clock())
    assert isinstance(kind, AzureKind)
    from obstore.store import AzureStore

    from registry_wsgi.stores.bucket import ObjectStore

    kind.put(KEY, b"weights")
    kind.put_blob("sha256-aa", b"nobody's")
    account = azurite.account()
    config: dict[str, Any] = {"endpoint": account.url, "account_name": account.name}
    config |= {"sas_token": account.sas(allowed), "client_options": {"allow_http": True}}
    client = AzureStore(account.container, prefix=kind.client.prefix, **config)
    cache = ModelCache(ObjectStore(client, name="bucket"))
    if "d" not in allowed:
        with pytest.raises(StoreError, match=r"/sha256-aa: these credentials may not do this"):
            cache.prune(age=0)
        return
    assert cache.unlink("smol")
    assert cache.restore("smol")
    assert cache.prune(age=0).blobs == 1
    cache.protect("smol")
    assert cache.verify(deep=True).ok
