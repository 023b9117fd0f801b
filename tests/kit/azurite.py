"""
An Azure Blob Storage for the tests: Azurite, the emulator that Microsoft makes.

It comes from npm, once, into a folder of the user's cache, and runs in memory for as long as the
tests do. It checks signatures and conditions as Azure does, and knows neither versions nor soft
delete.
"""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kit.children import mortal
from kit.patience import impatient
from kit.requirements import npm_install, require, require_command, unavailable

if TYPE_CHECKING:
    from obstore.store import AzureStore

_VERSION = "3.35.0"  # newer ones want a newer Node

# Every ten minutes Azurite removes what it no longer needs, and sorts all that it has anew for each
# of these. With thousands it answers nobody for minutes. So it never does; its memory suffices.
_WITHOUT_SWEEPS = """
const program = process.argv[1];
require(program + "/utils/constants").DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
require(program + "/main");
"""

# Read here: the fixtures give each test a home of its own.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "registry-wsgi-tests")
_API = "2021-08-06"


@dataclass(frozen=True)
class Account:
    """Where a container is, and how to get there."""

    url: str
    name: str
    key: str
    container: str = "models"

    @property
    def config(self) -> dict[str, str]:
        """The settings for obstore."""
        return {"endpoint": self.url, "account_name": self.name, "account_key": self.key}

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables; the name is in the URL of the store."""
        return {"AZURE_STORAGE_ENDPOINT": self.url, "AZURE_STORAGE_ACCOUNT_KEY": self.key}

    def client(self, prefix: str) -> AzureStore:
        """A client of the other programs' side."""
        from obstore.store import AzureStore

        config: dict[str, Any] = {**self.config, **impatient()}
        return AzureStore(self.container, prefix=prefix, **config)

    def sign(self, *lines: str) -> str:
        """The signature of a request or a token, by the key of the account."""
        text = "\n".join(lines).encode()
        signed = hmac.new(base64.b64decode(self.key), text, hashlib.sha256)
        return base64.b64encode(signed.digest()).decode()

    def sas(self, permissions: str) -> str:
        """A token that allows what *permissions* say in the container, for an hour."""
        until = datetime.now(UTC) + timedelta(hours=1)
        expiry = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        place = f"/blob/{self.name}/{self.container}"
        nothing = [""] * 4  # no identifier, address or protocol; then no snapshot, and no headers
        lines = [permissions, "", expiry, place, *nothing[:3], _API, "c", "", "", *nothing, ""]
        token = {"sv": _API, "sr": "c", "sp": permissions, "se": expiry, "sig": self.sign(*lines)}
        return urlencode(token)

    def put(self, path: str, query: str, **headers: str) -> None:
        """Ask for what obstore does not; *query* is one pair, or empty."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API}
        signed = [f"{name}:{value}" for name, value in sorted(headers.items())]
        place = f"/{self.name}/{self.name}/{self.container}{path}"
        asked = [query.replace("=", ":")] if query else []
        signature = self.sign("PUT", *[""] * 11, *signed, place, *asked)
        headers["Authorization"] = f"SharedKey {self.name}:{signature}"
        url = f"{self.url}/{self.container}{path}?{query}"
        request = urllib.request.Request(url, method="PUT", headers=headers)
        urllib.request.urlopen(request, timeout=9).close()


@functools.cache
def _found() -> Account | str:
    """The account, or why there is none; that too is found out once."""
    folder = _CACHE / f"azurite-{_VERSION}"
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=_CACHE))
        if problem := npm_install(f"azurite@{_VERSION}", new):
            shutil.rmtree(new)
            return problem
        try:
            new.rename(folder)
        except OSError:  # another was faster
            shutil.rmtree(new)
    key = base64.b64encode(os.urandom(32)).decode()
    found = Account(f"{_start(folder, f'tests:{key}')}/tests", "tests", key)
    found.put("", "restype=container")
    return found


def account() -> Account:
    """The account, with its container; the test is skipped where Azurite cannot be had."""
    require("obstore")
    require_command("node", "npm")
    found = _found()
    if isinstance(found, str):
        unavailable(found)
    return found


def fresh_prefix() -> str:
    """A prefix below which nothing is."""
    return f"registry-wsgi-tests/{uuid.uuid4().hex[:12]}"


def _start(folder: Path, accounts: str) -> str:
    """Start Azurite on a free port; its URL."""
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob"
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"]
    options += ["--skipApiVersionCheck", "--disableTelemetry"]
    # No pipe: nobody reads it later.
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            mortal(["node", "-e", _WITHOUT_SWEEPS, str(program), *options]),
            env=os.environ | {"AZURITE_ACCOUNTS": accounts},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        atexit.register(_stop, server)
        for _ in range(300):
            text = os.pread(said.fileno(), 1 << 16, 0).decode()
            if listens := re.search(r"listens on (http://\S+)", text):
                return listens[1]
            assert server.poll() is None, f"Azurite has ended: {text}"
            time.sleep(0.1)
    raise AssertionError(f"Azurite does not listen: {text}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(10)
