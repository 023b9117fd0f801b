"""A proxy in front of an object store that answers badly when it is told to."""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: What may go wrong with a request. It is not passed on: ``500``, ``503`` and a status with a code,
#: as ``400 ExpiredToken``, are answered; ``drop`` closes the connection, ``hang`` waits before,
#: and ``deny`` says of the first key of a bulk delete that it may not be removed. ``501`` says that
#: there is no such request, and ``md5`` that it lacks the header ``Content-MD5``, if it does. It is
#: passed on: ``lose`` gives no answer, ``cut`` gives half of it, ``blind`` takes the header
#: ``If-Match`` away.
Fault = str

#: Says what goes wrong with a request, by its method and its path with the query; None: nothing.
Plan = Callable[[str, str], Fault | None]

_CODES = {
    "500": (500, "InternalError"),
    "501": (501, "NotImplemented"),
    "503": (503, "SlowDown"),
    "md5": (400, "MissingContentMD5"),
}
_DENIED = b"<Error>%b<Code>AccessDenied</Code><Message>no</Message></Error>"


@dataclass
class Proxy:
    """
    The proxy at *url*.

    Attributes:
        plan: What goes wrong.
        requests: The methods and paths of all requests.
        faults: How many requests it answered badly.
        signers: The access keys that requests were signed with; None for those without a signature.
    """

    url: str
    plan: Plan = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: int = 0
    signers: set[str | None] = field(default_factory=set)


@contextmanager
def proxied(endpoint: str, hang: float = 3, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """
    Serve a proxy in front of *endpoint*.

    Args:
        endpoint: The URL of the store.
        hang: How long it waits, in seconds.
        tls: What it shows to clients that speak TLS with it; None: they do not.
    """
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client has had enough
                self.close_connection = True

        def serve(self) -> None:
            proxy.requests.append((self.command, self.path))
            key = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
            proxy.signers.add(key[1] if key else None)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = proxy.plan(self.command, self.path)
            if fault is not None:
                proxy.faults += 1
            if fault == "hang":
                time.sleep(hang)
            if fault in ("drop", "hang"):
                self.close_connection = True
                return
            if fault == "md5" and self.headers.get("content-md5"):
                fault = None
            if fault is not None and (fault in _CODES or " " in fault):
                status, code = _CODES.get(fault) or fault.split()
                error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
                self.answer(int(status), [("Content-Type", "application/xml")], error)
                return
            if fault == "deny":
                key, *others = re.findall(rb"<Key>.*?</Key>", body)
                results = [_DENIED % key, *(b"<Deleted>%b</Deleted>" % other for other in others)]
                result = b"<DeleteResult>%b</DeleteResult>" % b"".join(results)
                self.answer(200, [("Content-Type", "application/xml")], result)
                return
            connection = http.client.HTTPConnection(target, timeout=30)
            headers = dict(self.headers)
            if fault == "blind":
                headers = {name: headers[name] for name in headers if name.lower() != "if-match"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if fault == "lose":
                self.close_connection = True
                return
            kept = [(name, value) for name, value in answer.getheaders() if name not in _OWN]
            self.answer(answer.status, kept, data, cut=fault == "cut")

        def answer(
            self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = str(len(data))
            if self.command == "HEAD":
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                length = lengths[0] if lengths else "0"
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    proxy = Proxy(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


_OWN = ("Connection", "Keep-Alive")
