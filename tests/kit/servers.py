"""Real servers around the apps of tests/apps: child processes on a free port of loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import registry_wsgi
from kit.requirements import require, unavailable
from kit.trees import Tree

LIMIT = 20.0  # seconds for anything that is waited for: only a test that fails takes them

KINDS = ("gunicorn-sync", "gunicorn-gthread", "waitress")
GUNICORN = ("gunicorn-sync", "gunicorn-gthread")
THREADED = ("gunicorn-gthread", "waitress")

_GUNICORN = ("gunicorn", "--bind=127.0.0.1:0", "--permit-unconventional-http-method")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "gunicorn-sync": (*_GUNICORN, "--worker-class=sync"),
    "gunicorn-gthread": (*_GUNICORN, "--worker-class=gthread", "--threads=8", "--workers=2"),
    "gunicorn-gevent": (*_GUNICORN, "--worker-class=gevent"),
    "waitress": ("waitress", "--listen=127.0.0.1:0", "--threads=8"),
}
_LISTENING = re.compile(r"(?:Listening at:|Serving on) http://127\.0\.0\.1:(\d+)")

# In place of /etc/nginx/nginx.conf: all that nginx writes is below its prefix.
_NGINX = """\
{user}
pid nginx.pid;
daemon off;
error_log stderr;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {sites}
}}
"""

_TESTS = Path(__file__).parents[1]
EXAMPLES = _TESTS.parent / "docs" / "examples"
_NGINX_SITES = EXAMPLES / "nginx.conf"
_PACKAGE = Path(registry_wsgi.__file__).parents[1]

T = TypeVar("T")


def wait_for(look: Callable[[], T], what: str) -> T:
    """Look again and again until there is something, for a bounded time."""
    deadline = time.monotonic() + LIMIT
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {LIMIT} s in vain for {what}"
        time.sleep(0.01)
    return found


@dataclass(frozen=True)
class Answer:
    """A response as it came over the socket."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of one header, None if it is absent."""
        return {key.lower(): value for key, value in self.headers}.get(name.lower())


def request(
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    chunks: Iterable[bytes] | None = None,
) -> bytes:
    """
    Write a request as it goes over the wire.

    Unless *headers* say otherwise it closes the connection. With *chunks*, that is its body.
    """
    fields = {"Host": "localhost", "Connection": "close"}
    if chunks is not None:
        fields["Transfer-Encoding"] = "chunked"
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    else:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in {**fields, **(headers or {})}.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


def plain(log: Path) -> Path:
    """Where tests/apps/registry.py has its log as lines of text."""
    return log.with_suffix(".txt")


def read_answer(connection: socket.socket, method: str = "GET") -> Answer | None:
    """Read one response; None if the server dropped the connection instead."""
    with HTTPResponse(connection, method=method) as response:
        try:
            response.begin()
            body = response.read()
        except (HTTPException, ConnectionError):
            return None
        return Answer(response.status, response.reason, response.getheaders(), body)


class Server:
    """
    A server in a child process, ready for requests once made.

    Args:
        kind: One of `KINDS`; for nginx there is `Nginx`.
        app: What it serves, ``module:name`` or ``module:name()``; tests/ is on its path.
        folder: An empty folder, for its output and as its home and working directory.
        environment: What it gets beside the environment of the tests.
        options: More options of the server's command line.
    """

    def __init__(
        self,
        kind: str,
        app: str,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        options: Iterable[str] = (),
    ) -> None:
        self.kind = kind
        self.output = folder / "output.txt"
        self._seen = 0
        self._process = start(kind, app, folder, environment, options)
        try:
            self.port = wait_for(self._port, f"{kind} to listen")
            wait_for(self._answers, f"{kind} to answer")
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception):
                text = self.output.read_text()
                raise RuntimeError(f"{kind} did not start:\n{text}") from error
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """Open a connection, with a limit on the time that anything on it takes."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)

    def send(self, message: bytes, *, method: str = "GET") -> Answer | None:
        """Send one request as it is and read the response, None if the connection is dropped."""
        with self.connect() as connection:
            # The server may answer, and stop reading, before all is sent.
            with suppress(ConnectionError):
                connection.sendall(message)
            return read_answer(connection, method)

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        chunks: Iterable[bytes] | None = None,
    ) -> Answer:
        """Send one request, see `request`, and read the response."""
        answer = self.send(request(method, target, body, headers, chunks=chunks), method=method)
        assert answer is not None, f"{self.kind} dropped the connection"
        return answer

    def exchange(self, message: bytes) -> bytes:
        """Send one request and read to the end, to the byte, but for the date."""
        received = b""
        with self.connect() as connection, suppress(ConnectionError):
            connection.sendall(message)
            while data := connection.recv(65_536):
                received += data
        return re.sub(rb"\r\nDate: [^\r]*", b"", received)

    def mark(self) -> None:
        """Take what the server has put out so far for seen."""
        self._seen = self.output.stat().st_size

    def new_output(self) -> str:
        """What the server has put out since `mark`."""
        return self.output.read_bytes()[self._seen :].decode("utf-8", "replace")

    def ask_to_stop(self) -> None:
        """Ask the server to stop, and do not wait for it."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Ask the server to stop, and kill it with all its workers if it does not."""
        stop(self._process)

    def _port(self) -> int:
        self._check_alive()
        match = _LISTENING.search(self.output.read_text())
        return int(match[1]) if match else 0

    def _answers(self) -> bool:
        self._check_alive()
        return self.send(request("GET", "/")) is not None

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with {self._process.returncode}")


class Nginx(Server):
    """
    Nginx as the docs set it up: ``/api/delete`` goes to one server, all else to another.

    Args:
        folder: An empty folder, for everything that nginx writes.
        registry: The port of the server behind ``/api/delete``.
        ollama: The port of what stands in for Ollama.
        changes: What to replace in the example of the docs.
    """

    def __init__(
        self,
        folder: Path,
        registry: int,
        ollama: int,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:  # a port 0 it would not tell
            self._free: int = free.getsockname()[1]
        sites = _NGINX_SITES.read_text()
        ports = {8080: self._free, 8434: registry, 11434: ollama}
        local = {f"127.0.0.1:{old}": f"127.0.0.1:{new}" for old, new in ports.items()}
        for old, new in {**(changes or {}), **local}.items():
            assert old in sites
            sites = sites.replace(old, new)
        user = "user root;" if os.geteuid() == 0 else ""  # another could not enter the folder
        (folder / "nginx.conf").write_text(_NGINX.format(user=user, sites=sites))
        super().__init__("nginx", "nginx.conf", folder)

    def _port(self) -> int:
        self._check_alive()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._free)):
            return self._free
        return 0


#: Starts a server, with the arguments of `Server`, or of `Nginx`, but for the folder; it is stopped
#: at the end.
Serve = Callable[..., Server]


@dataclass
class App:
    """An app that is served, with the files by which it and the test tell each other things."""

    server: Server
    notes: Path
    signal: Path
    file: Path
    pipe: int

    def target(self, path: str) -> str:
        """The target of a request for *path* that tells the app where these files are."""
        files = {"notes": self.notes, "signal": self.signal, "file": self.file}
        return f"{path}?{urlencode({name: str(file) for name, file in files.items()})}"

    def go_on(self) -> None:
        """Let the app go on that waits for the signal."""
        os.write(self.pipe, b"!")

    def noted(self) -> list[str]:
        """What the app has noted so far."""
        return self.notes.read_text().splitlines()

    def both(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
        """What comes over the wire with the middleware, and without it."""
        target = self.target(path)
        return (
            self.server.exchange(request(method, target, body)),
            self.server.exchange(request(method, target, body, {"X-Bare": "1"})),
        )


@contextmanager
def staged(server: Server, folder: Path) -> Iterator[App]:
    """Give the app behind *server* its files, below *folder*."""
    notes, fifo, file = folder / "notes", folder / "signal", folder / "file"
    notes.touch()
    os.mkfifo(fifo)
    file.write_bytes(b"content\n" * 10_000)
    pipe = os.open(fifo, os.O_RDWR)  # so that the app need not wait for us to open it
    try:
        yield App(server, notes, fifo, file, pipe)
    finally:
        os.close(pipe)


class Registry:
    """A server around tests/apps/registry.py, the models directory that it serves, and its log."""

    def __init__(self, server: Server, tree: Tree, log: Path) -> None:
        self.server = server
        self.tree = tree
        self._log = log

    def delete(self, model: str) -> Answer:
        """Delete *model* as a client would."""
        body = json.dumps({"model": model}).encode()
        return self.server.request("DELETE", "/api/delete", body)

    def has(self, key: str) -> bool:
        """Whether the manifest of *key* is in its place."""
        return self.tree.path(key).exists()

    def logged(self) -> list[dict[str, Any]]:
        """The log records of the test so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def lines(self) -> list[str]:
        """The lines of the plain log of the test so far."""
        return plain(self._log).read_text().split("\n")[:-1]

    def wait_for_log(self, count: int = 1) -> list[dict[str, Any]]:
        """The log records, once there are *count* of them."""
        wait_for(lambda: len(self.logged()) >= count, f"{count} log records")
        return self.logged()


def start(
    kind: str,
    app: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    options: Iterable[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a server; see `Server` for the arguments."""
    command = _command(kind, app, folder, options)
    settings = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OLLAMA_MODELS", "GUNICORN_CMD_ARGS", "SCRIPT_NAME", "WEB_CONCURRENCY")
        and not name.startswith("REGISTRY_WSGI_")
    }
    settings["HOME"] = str(folder)
    # The same package that the tests import, wherever that is, and the apps.
    settings["PYTHONPATH"] = os.pathsep.join([str(_TESTS), str(_PACKAGE)])
    settings.update(environment or {})
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the workers can be killed with it
        )


def _command(kind: str, app: str, folder: Path, options: Iterable[str]) -> list[str]:
    if kind == "nginx":
        # Debian has it where only root looks.
        nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
        if nginx is None:
            unavailable("the command nginx is not installed")
        return [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / app)]
    command = _COMMANDS[kind]
    require(command[0])
    if kind == "waitress" and app.endswith("()"):
        app = app.removesuffix("()")
        command += ("--call",)
    return [sys.executable, "-u", "-m", *command, *options, app]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` has started, and all that it has started."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
