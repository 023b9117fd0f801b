"""Stores in buckets, for the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.clocks import Clock
from kit.kinds import KINDS, BucketKind, kinds


@pytest.fixture(params=kinds("bucket", "s3", "azure", "gcs"))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> BucketKind:
    """An empty store in a bucket: in memory, behind S3, in Azure and Google Cloud."""
    kind = KINDS[request.param](tmp_path, Clock())
    assert isinstance(kind, BucketKind)
    return kind


@pytest.fixture
def bucket(tmp_path: Path) -> BucketKind:
    """An empty store in a bucket in memory."""
    return BucketKind(tmp_path, Clock())
