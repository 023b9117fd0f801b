"""
An S3 endpoint for the tests.

It is the one that ``REGISTRY_WSGI_TEST_S3`` names, ``http://key:secret@host:port/bucket``: any
store will do, and what the tests put there lies under one prefix and is removed in the end. Without
it, it is a server of moto's, which knows no faults and accepts any key.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kit.children import mortal
from kit.patience import impatient
from kit.requirements import require, require_command, unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

# Read here: the fixtures clear the environment of each test.
_GIVEN = os.environ.get("REGISTRY_WSGI_TEST_S3")
_CEPH = os.environ.get("REGISTRY_WSGI_TEST_CEPH")


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket is, and how to get there."""

    url: str
    bucket: str
    key: str
    secret: str
    real: bool  # not moto

    @property
    def config(self) -> dict[str, str]:
        """The settings for obstore."""
        return {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": self.key,
            "secret_access_key": self.secret,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def client(self, prefix: str) -> S3Store:
        """A client of the other programs' side."""
        from obstore.store import S3Store

        config: dict[str, Any] = {**self.config, **impatient()}
        return S3Store(self.bucket, prefix=prefix, **config)

    def botocore(self) -> Any:
        """A client for what obstore cannot. To make one takes a second, so there is only one."""
        return _botocore(self.url, self.key, self.secret)


@functools.cache
def _botocore(url: str, key: str, secret: str) -> Any:
    require("botocore")
    import botocore.session
    from botocore.config import Config

    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(connect_timeout=2, read_timeout=4, retries={"total_max_attempts": 2}),
    )


def given(url: str) -> Endpoint:
    """The endpoint at ``http://key:secret@host:port/bucket``."""
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return Endpoint(
        host, parts.path.strip("/"), parts.username or "", parts.password or "", real=True
    )


@functools.cache
def endpoint() -> Endpoint:
    """The endpoint, with an empty place in its bucket; the test is skipped where there is none."""
    require("obstore")
    if _GIVEN:
        found = given(_GIVEN)
        atexit.register(_remove_all, found)
    else:
        found = _moto()
        request = urllib.request.Request(f"{found.url}/{found.bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=9).close()
    return found


def conditional() -> Endpoint:
    """A new bucket of moto's, which deletes on a condition: Ceph 16 does not."""
    return _bucket_of_moto("plain")


def versioned() -> Endpoint:
    """
    A new bucket that keeps old versions, of moto's: Ceph 16 has no conditional writes there.

    Each caller has its own, as moto reads all versions of a bucket to list some.
    """
    found = _bucket_of_moto("versions")
    found.botocore().put_bucket_versioning(
        Bucket=found.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return found


def _bucket_of_moto(name: str) -> Endpoint:
    """Make a bucket whose name begins with *name*."""
    found = replace(_moto(), bucket=f"{name}-{uuid.uuid4().hex[:12]}")
    found.botocore().create_bucket(Bucket=found.bucket)
    return found


def ceph_conf() -> str:
    """
    The ``ceph.conf`` of the Ceph that the endpoint is of, for a gateway of one's own.

    It is what ``REGISTRY_WSGI_TEST_CEPH`` names; the test is skipped without it.
    """
    if not _CEPH:
        unavailable("REGISTRY_WSGI_TEST_CEPH names no ceph.conf")
    require_command("radosgw", "setpriv")
    return _CEPH


#: What this run of the tests puts into the bucket lies below this.
PREFIX = f"registry-wsgi-tests/{uuid.uuid4().hex[:12]}"


def fresh_prefix() -> str:
    """A prefix below which nothing is."""
    return f"{PREFIX}/{uuid.uuid4().hex[:12]}"


@functools.cache
def _moto() -> Endpoint:
    require("obstore", "moto", "flask")
    return Endpoint(_start_moto(), "models", "key", "secret", real=False)


def _start_moto() -> str:
    """Start moto on a free port; its URL."""
    # Without -P the modules of this folder would hide others of the same name.
    command = [sys.executable, "-P", str(Path(__file__).with_name("moto_server.py"))]
    # In Python's development mode, which the tests have on, it is much slower.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDEVMODE"}
    # No pipe: nobody reads it later.
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            mortal(command), stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        atexit.register(_stop, server)
        for _ in range(300):
            text = os.pread(said.fileno(), 1 << 16, 0).decode()
            if running := re.search(r"Running on (http://[\d.:]+)", text):
                return running[1]
            assert server.poll() is None, f"moto has ended: {text}"
            time.sleep(0.1)
    raise AssertionError(f"moto does not listen: {text}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(10)


def _remove_all(found: Endpoint) -> None:
    client = found.botocore()  # obstore refuses to list some of the keys that tests use
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=found.bucket, Prefix=PREFIX)
    for page in pages:
        for each in page.get("Contents", ()):
            client.delete_object(Bucket=found.bucket, Key=each["Key"])
