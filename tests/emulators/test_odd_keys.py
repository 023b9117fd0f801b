"""Objects that others have put into a bucket: folder markers, and keys with odd parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import azurite
from kit.bucket_seam import caching
from kit.clocks import Clock
from kit.kinds import KINDS, AzureKind, BucketKind, S3Kind
from kit.trees import blob

FOLDER_MARKERS = [
    *("blobs", "manifests", "trash", "condemned", "protected", "probe", "index", "manifests-v2"),
    *("manifests/h", "manifests/h/n", "manifests/h/n/m", "manifests/h/n/m/t", "manifests/h/n/m/x"),
    *(f"blobs/{blob(b'nobody')}", f"blobs/{blob(b'weights')}", "blobs/sha256-0", "blobs/a/b"),
    "trash/2026-01-31T12-00-00.000000Z-1f0e7c5a/manifests/h/n/m/t",
]


def put_raw(kind: BucketKind, key: str) -> None:
    """Put an empty object at a key that obstore would change or refuse."""
    path = f"{kind.client.prefix}/{key}"
    if isinstance(kind, AzureKind):
        azurite.account().put(f"/{path}", "", x_ms_blob_type="BlockBlob")
        return
    assert isinstance(kind, S3Kind)
    kind.endpoint.botocore().put_object(Bucket=kind.endpoint.bucket, Key=path, Body=b"")


def use(kind: BucketKind) -> list[object]:
    """What all there is to do comes to, over a store with one model and one blob too many."""
    kind.put("h/n/m/t", b"weights")
    kind.put_blob(blob(b"nobody"), b"nobody")
    kind.clock.move(days=8)
    said: list[object] = [
        caching(kind).prune().held_blobs,
        [str(model) for model in caching(kind).models()],
        caching(kind).protect("h/n/other"),
        caching(kind).protected(),
        caching(kind).unprotect("h/n/other"),
        caching(kind).unlink("h/n/m:t"),
        [(str(model), model.restorable, model.size) for model in caching(kind).deleted()],
        caching(kind).prune().held_blobs,
        caching(kind).restore("h/n/M:t"),
        caching(kind).verify(deep=True).ok,
    ]
    for _ in range(2):
        kind.clock.move(days=8)
        report = caching(kind).prune()
        said.append((report.blobs, report.bytes, report.held_blobs, report.reasons))
    report = caching(kind).prune(age=0, all=True)
    return [*said, report.models, report.blobs, sorted(kind.store.blobs())]


@pytest.mark.parametrize(("where", "few"), [("s3", 0), ("azure", 50)])
def test_folder_markers_are_passed_over(
    tmp_path: Path, where: str, few: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The empty objects that consoles make for folders change nothing, wherever they lie."""
    kinds = [KINDS[where](tmp_path, Clock()) for _ in range(2)]
    said = []
    for kind, markers in zip(kinds, ([], FOLDER_MARKERS), strict=True):
        assert isinstance(kind, BucketKind)
        kind.tune(few=few)
        for key in markers:
            put_raw(kind, f"{key}/")
        said.append(use(kind))
    assert said[0] == said[1]
    assert "skipped" not in caplog.text


def test_keys_with_an_empty_part_are_passed_over(tmp_path: Path) -> None:
    """One is no model and no blob, and does not hide those that come before and after."""
    odd = ["blobs//x", "manifests//a/b/c/d", "trash//x", "condemned/../x", "manifests/h/./m/t"]
    said = []
    for keys in ([], odd):
        kind = S3Kind(tmp_path, Clock())
        for key in keys:
            put_raw(kind, key)
        said.append(use(kind))
    assert said[0] == said[1]


def test_an_odd_key_after_a_page_costs_none_of_the_others(tmp_path: Path) -> None:
    """What was listed before is not listed again, and what follows is not left out."""
    from concurrent.futures import ThreadPoolExecutor

    kind = S3Kind(tmp_path, Clock())
    names = {f"sha256-{number:04}" for number in range(1_020)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: kind.put_blob(name, b"x"), names))
    put_raw(kind, "blobs/sha256-1010//x")
    found = [*kind.store.blobs()]
    assert len(found) == len(names)
    assert {*found} == names
