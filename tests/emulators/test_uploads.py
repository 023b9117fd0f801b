"""What was begun to be uploaded in parts, and never finished."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import inside, s3
from kit.clocks import Clock
from kit.kinds import BucketKind, S3Kind
from kit.proxy import proxied
from kit.trees import blob
from kit.views import content
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError

KEY = "registry.ollama.ai/library/smol/latest"
NAME = blob(b"large")


@pytest.fixture
def kind(tmp_path: Path) -> S3Kind:
    """An empty store behind S3, opened through a second client for what obstore cannot."""
    return S3Kind(tmp_path, Clock())


class Uploader:
    """Another program, which uploads in parts."""

    def __init__(self, kind: S3Kind) -> None:
        self.bucket = kind.endpoint.bucket
        self.prefix = f"{kind.client.prefix}/blobs/"
        self.client = kind.endpoint.botocore()

    def begin(self, name: str = NAME, *parts: bytes) -> str:
        """Begin to upload the blob *name*, and send *parts* of it; which upload it is."""
        key = self.prefix + name
        upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        for number, data in enumerate(parts, 1):
            self.send(upload, number, data, name)
        return str(upload)

    def send(self, upload: str, number: int, data: bytes, name: str = NAME) -> str:
        """Send one part."""
        found = self.client.upload_part(
            Bucket=self.bucket,
            Key=self.prefix + name,
            UploadId=upload,
            PartNumber=number,
            Body=data,
        )
        return str(found["ETag"])

    def finish(self, upload: str, e_tag: str) -> None:
        """Make the blob of its one part."""
        self.client.complete_multipart_upload(
            Bucket=self.bucket,
            Key=self.prefix + NAME,
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": e_tag}]},
        )

    def unfinished(self) -> list[str]:
        """Which uploads there are."""
        page = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return [upload["UploadId"] for upload in page.get("Uploads", ())]


def test_what_is_unfinished_is_a_partial_of_its_age(kind: S3Kind) -> None:
    """It is marked once it is older than the age, and ended by a run after the hold."""
    kind.put(KEY, b"weights")
    uploader = Uploader(kind)
    upload = uploader.begin(NAME, b"x" * 1_000, b"y" * 500)
    if s3.endpoint().real:  # moto's uploads were all begun in 2010
        uploader.begin("nothing-sent")
    else:
        uploader.begin("little-sent", b"")
    cache = ModelCache(kind.store, clock=kind.clock)
    report = cache.prune()
    assert (report.blobs, report.held_blobs) == (0, 0)
    kind.clock.move(days=8)
    plan = cache.prune(dry_run=True)
    report = cache.prune()
    assert (report.blobs, report.held_blobs, report.held_bytes) == (0, 2, 1_500)
    assert (plan.held_blobs, plan.held_bytes) == (2, 1_500)
    assert upload in uploader.unfinished()
    kind.clock.move(days=1)
    report = cache.prune()
    assert report.reasons["partial"].blobs == 2
    assert report.bytes == 1_500
    assert uploader.unfinished() == []
    assert cache.verify(deep=True).ok
    assert not list(kind.store.condemned())


def test_in_a_quiet_store_it_goes_at_once(kind: S3Kind) -> None:
    """As any unfinished download does, and only that below this prefix."""
    uploader, other = Uploader(kind), Uploader(S3Kind(Path(), kind.clock))
    uploader.begin(NAME, b"x")
    theirs = other.begin(NAME, b"x")
    assert ModelCache(kind.store).prune(age=0).reasons["partial"].blobs == 1
    assert uploader.unfinished() == []
    assert other.unfinished() == [theirs]


def test_one_that_goes_on_is_left_and_shows_a_pull(kind: S3Kind) -> None:
    """A part that came of late is a sign of life, however long ago the upload was begun."""
    kind.put("h/n/m/t", b"kept")  # in a store without models nothing goes
    nobodys = blob(b"nobody's")
    kind.put_blob(nobodys, b"nobody's")
    uploader = Uploader(kind)
    upload = uploader.begin(NAME, b"x" * 100)
    kind.clock.move(days=8)
    cache = ModelCache(kind.store, clock=kind.clock)
    assert cache.prune().held_blobs == 2
    time.sleep(1.1)  # the times of the store are in whole seconds
    e_tag = uploader.send(upload, 1, b"y" * 200)
    kind.clock.move(days=2)
    now = time.time()
    alive = ModelCache(
        kind.store, in_flight=timedelta(seconds=kind.clock() - now + 60), clock=kind.clock
    )
    report = alive.prune()
    assert (report.blobs, report.held_blobs) == (0, 2)  # nobody's waits for the pull
    assert uploader.unfinished() == [upload]
    uploader.finish(upload, e_tag)
    assert kind.store.blob(NAME) is not None
    assert cache.prune().blobs == 1
    assert kind.store.blob(nobodys) is None
    assert content(kind.store, NAME) == b"y" * 200


def test_one_is_as_young_as_its_last_part(kind: S3Kind) -> None:
    """The parts before that say nothing of whether it goes on."""
    uploader = Uploader(kind)
    upload = uploader.begin(NAME, b"x" * 100)
    [name] = kind.store.blobs()
    first = kind.store.blob(name)
    time.sleep(1.1)  # the times of the store are in whole seconds
    uploader.send(upload, 2, b"y")
    last = kind.store.blob(name)
    assert first is not None
    assert last is not None
    assert last.changed > first.changed
    assert last.size == 101


def test_one_that_is_finished_or_ended_by_another_is_gone(kind: S3Kind) -> None:
    """A mark that is left of it goes, and what it has become stays."""
    uploader = Uploader(kind)
    upload = uploader.begin()
    e_tag = uploader.send(upload, 1, b"large")
    store = kind.store
    [name] = store.blobs()
    [aside] = store.condemn([name], 1.0)
    assert [*store.blobs()] == []
    uploader.finish(upload, e_tag)
    assert [*store.blobs()] == [NAME]
    assert store.condemned_blob(aside) is None
    assert [*store.purge([(aside, time.time() + 60)])] == []
    assert [*store.condemned()] == []
    assert store.blob(NAME) is not None
    assert store.blob(name) is None
    inside.uploads_of(kind.store).abort(name)
    assert store.blob(NAME) is not None


def test_many_are_listed_by_the_page(kind: S3Kind) -> None:
    """A listing of several pages is whole."""
    uploader = Uploader(kind)
    names = [f"sha256-{number:02}" for number in range(7)]
    for name in names:
        uploader.begin(name, b"x")
    client = inside.botocore_of(kind.store)
    listing = client.get_paginator("list_multipart_uploads")
    found = listing.paginate(
        Bucket=uploader.bucket, Prefix=uploader.prefix, PaginationConfig={"PageSize": 2}
    )
    assert len([upload for page in found for upload in page["Uploads"]]) == 7
    assert sorted(name.partition("?")[0] for name in kind.store.blobs()) == names


@pytest.mark.parametrize("plan", ["500", "drop"])
def test_a_listing_of_them_that_fails_removes_nothing(kind: S3Kind, plan: str) -> None:
    """As any listing that fails."""
    from registry_wsgi.stores.bucket import ObjectStore

    kind.put_blob("sha256-aa", b"nobody's")
    with proxied(s3.endpoint().url) as proxy:
        config: dict[str, Any] = s3.endpoint().config | {"endpoint": proxy.url}
        url = f"s3://{s3.endpoint().bucket}/{kind.client.prefix}"
        store = ObjectStore.from_url(url, **config)
        proxy.plan = lambda method, path: plan if "?uploads" in path or "&uploads" in path else None
        with pytest.raises(StoreError, match="blobs/"):
            ModelCache(store).prune(age=0)
        assert [*kind.store.blobs()] == ["sha256-aa"]
        proxy.plan = lambda method, path: None
        assert ModelCache(store).prune(age=0).blobs == 1


def test_where_they_are_not_told_of_all_else_goes_on(
    kind: S3Kind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that may not list them, or no botocore, cost a warning."""
    kind.put_blob("sha256-aa", b"nobody's")
    Uploader(kind).begin(NAME, b"x")

    class Forbidden:
        def get_paginator(self, name: str) -> Any:
            return self

        def paginate(self, **options: Any) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            raise inside.not_told_error("the store answers AccessDenied")

        def create_multipart_upload(self, **options: Any) -> Any:
            raise inside.not_told_error("the store answers AccessDenied")

        def delete_object(self, **options: Any) -> Any:
            raise inside.not_told_error("the store answers AccessDenied")

        def get_bucket_versioning(self, **options: Any) -> Any:
            raise inside.not_told_error("the store answers AccessDenied")

    inside.all_ask_through(monkeypatch, Forbidden())
    with caplog.at_level(logging.WARNING):
        assert ModelCache(kind.store).prune(age=0).blobs == 1
    assert "unfinished uploads are not looked for" in caplog.text


def test_other_kinds_of_buckets_have_none(tmp_path: Path) -> None:
    """Nothing is asked of a store that is not S3's."""
    kind = BucketKind(tmp_path, Clock())
    assert [*inside.uploads_of(kind.store).names()] == []
