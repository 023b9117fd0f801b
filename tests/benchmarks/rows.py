"""The rows of the table: each measures something of ours against what it is compared with."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import bare
from benchmarks.apps import Empty, plain
from benchmarks.measure import Row, Side, alternate, compared, ratio
from benchmarks.trees import BLOBS, Trees, blob_name, key_of, name_of, put_blobs
from kit.clocks import Clock
from kit.servers import Server
from kit.trees import Tree
from registry_wsgi import DiskStore, LocalRegistry, ModelCache

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["ROWS", "Bench"]

_TESTS = Path(__file__).parents[1]

# How many models there are in the stores: first those that are only compared with, or in the plot.
_SMALL = (10, 1_000)
_LARGE = (10_000, 100_000)


@dataclass
class Bench:
    """
    One run.

    Attributes:
        trees: The stores.
        scale: What all sizes are multiplied by.
        rounds: How often each side is measured where once takes long; what is quick, more often.
        clock: What is counted: the time on the wall, or that of the processor.
        curves: Of each kind of operation, the seconds it takes by the number of models.
    """

    trees: Trees
    scale: float = 1.0
    rounds: int = 5
    clock: Callable[[], float] = time.perf_counter
    curves: dict[str, dict[int, float]] = field(default_factory=dict)

    def size(self, full: int) -> int:
        """A size for this run."""
        return max(min(full, 10), round(full * self.scale))

    def point(self, curve: str, size: int, seconds: Sequence[float]) -> None:
        """Note a point of a curve."""
        self.curves.setdefault(curve, {})[size] = statistics.median(seconds)


def passed_through(bench: Bench) -> Iterator[Row]:
    """A request for another path, and the least that any middleware could do with it."""
    calls = bench.size(20_000)
    environ = _environ("GET", "/api/tags", b"")

    def side(app: Callable[..., Any]) -> Side:
        def once() -> float:
            started = bench.clock()
            for _ in range(calls):
                app(environ, _start_response)
            return (bench.clock() - started) / calls

        return once

    ours = LocalRegistry(plain, ModelCache(DiskStore(bench.trees.scratch())))
    seconds = alternate([side(ours), side(Empty(plain))], 20 * bench.rounds)
    yield Row(
        "request passed through / empty wrapper", 1.15, ratio(*seconds), detail=compared(*seconds)
    )


def delete(bench: Bench) -> Iterator[Row]:
    """A delete, with the prune after it, in stores of several sizes."""
    sizes = [bench.size(size) for size in (*_SMALL, *_LARGE)]
    measured = alternate([_Deletes(bench, size).once for size in sizes], 40 * bench.rounds)
    for size, seconds in zip(sizes, measured, strict=True):
        bench.point("DELETE", size, seconds)
    for size, seconds in list(zip(sizes, measured, strict=True))[len(_SMALL) :]:
        yield Row(
            f"DELETE at {size:,} models / at {sizes[0]:,}",
            1.5,
            ratio(seconds, measured[0]),
            detail=compared(seconds, measured[0]),
        )


def calls(bench: Bench) -> Iterator[Row]:
    """A delete, and the calls of the system that it cannot do without."""
    size = bench.size(10)
    ours, other = _Deletes(bench, size), bare.Delete(bench.trees.models(size), 0)

    def without() -> float:
        started = bench.clock()
        other.run()
        taken = bench.clock() - started
        other.undo()
        return taken

    seconds = alternate([ours.once, without], 40 * bench.rounds)
    yield Row(
        "DELETE of a five-layer model / its bare system calls",
        3.0,
        ratio(*seconds),
        detail=compared(*seconds),
    )


def prune(bench: Bench) -> Iterator[Row]:
    """A prune that finds nothing to remove, and the reading that any collector has to do."""
    for full in (*_SMALL, *_LARGE):
        size = bench.size(full)
        root = bench.trees.models(size)
        cache = ModelCache(DiskStore(root), clock=Clock.far_ahead())

        def ours(cache: ModelCache = cache) -> float:
            started = bench.clock()
            report = cache.prune()
            taken = bench.clock() - started
            assert (report.models, report.blobs) == (0, 0)
            return taken

        def reading(root: Path = root) -> float:
            started = bench.clock()
            bare.read_store(root)
            return bench.clock() - started

        reading()  # so that all is in memory
        seconds = alternate([ours, reading], bench.rounds)
        bench.point("prune, nothing to remove", size, seconds[0])
        bench.point("bare reading", size, seconds[1])
        if full in _LARGE:
            yield Row(
                f"prune with nothing to remove at {size:,} models / bare reading",
                2.0,
                ratio(*seconds),
                detail=compared(*seconds),
            )


def remove(bench: Bench) -> Iterator[Row]:
    """A prune that removes many blobs, and bare `os.unlink` of as many."""
    count = bench.size(100_000)
    # The smallest blobs that models have are configs of some 500 bytes.
    yield _remove(bench, f"prune that removes {count:,} blobs of 512 bytes", count, 512)
    yield _remove(bench, f"prune that removes {count:,} empty files", count, 0)


def _remove(bench: Bench, what: str, count: int, size: int) -> Row:
    # All of them first: ext4 is slow to make files just after many were removed.
    roots = [_unreferenced(bench, count, size) for _ in range(2 * bench.rounds)]
    left = iter(roots)

    def ours() -> float:
        root = next(left)
        cache = ModelCache(DiskStore(root), clock=Clock.far_ahead())
        started = bench.clock()
        report = cache.prune()
        taken = bench.clock() - started
        assert report.blobs == count
        return taken

    def without() -> float:
        root = next(left)
        paths = [entry.path for entry in os.scandir(root / "blobs")]
        started = bench.clock()
        bare.unlink_all(paths)
        return bench.clock() - started

    seconds = alternate([ours, without], bench.rounds)
    for root in roots:
        shutil.rmtree(root)
    return Row(f"{what} / bare unlink", 3.0, ratio(*seconds), detail=compared(*seconds))


def memory(bench: Bench) -> Iterator[Row]:
    """The most memory that a process has which prunes a store of many blobs."""
    count = bench.size(1_000_000)
    if not Path("/proc/self/status").exists():
        yield Row("peak memory of prune", 250, None, "MB", detail="only measured on Linux")
        return
    full = bench.trees.models(-(-count // BLOBS))
    yield _peak(f"peak memory of prune, {count:,} blobs, nothing to remove", full, 0)
    scratch = _unreferenced(bench, count)
    yield _peak(f"peak memory of prune, {count:,} blobs, all removed", scratch, count)
    shutil.rmtree(scratch)


def verify(bench: Bench) -> Iterator[Row]:
    """A check that reads every byte, and `sha256sum` on the same files."""
    what = "verify --deep, one thread / sha256sum"
    faster = "verify --deep, one thread / two threads"
    if missing := _missing("sha256sum", "click"):
        yield Row(what, 1.05, None, detail=missing)
        yield Row(faster, 1.8, None, at_least=True, detail=missing)
        return
    tree = Tree(bench.trees.scratch())
    size = bench.size(512 << 20)
    for number in range(4):
        tree.add(f"model-{number}", random.Random(number).randbytes(1_000) * (size // 1_000))
    files = sorted(map(str, tree.blobs.iterdir()), key=os.path.getsize, reverse=True)

    def command(*arguments: str) -> Side:
        return lambda: _run(bench, arguments, OLLAMA_MODELS=str(tree.root))

    def threads(count: int) -> Side:
        return command(*_COMMAND, "verify", "--deep", f"--threads={count}")

    def twice() -> float:
        started = time.perf_counter()
        both = [
            subprocess.Popen(
                [*_COMMAND, "verify", "--deep", "--threads=1"],
                env=os.environ | {"OLLAMA_MODELS": str(tree.root)},
                stdout=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        assert [process.wait() for process in both] == [0, 0]
        return (time.perf_counter() - started) / 2

    sides = [threads(1), threads(2), command("sha256sum", *files), twice]
    one, two, sums, half = alternate(sides, bench.rounds)
    yield Row(what, 1.05, ratio(one, sums), detail=compared(one, sums))
    yield Row(
        faster,
        1.8,
        ratio(one, two),
        at_least=True,
        detail=f"{compared(one, two)}; two processes at once gain {ratio(one, half):.2f}",
    )
    shutil.rmtree(tree.root)


def imports(bench: Bench) -> Iterator[Row]:
    """How long all public names take to load, and how long ``--help`` takes to answer."""
    rounds = 3 * bench.rounds
    # Bytecode is at hand, as after any installation: what is absent is compiled here, once.
    bytecode = str(bench.trees.scratch())
    ours, other = "from registry_wsgi import *", "import werkzeug.exceptions"
    sides = [_import(bench, statement, bytecode) for statement in (ours, other)]
    alternate(sides, 1)
    seconds = alternate(sides, rounds)
    yield Row(
        "import registry_wsgi, all names / import werkzeug.exceptions",
        1.3,
        ratio(*seconds),
        detail=compared(*seconds),
    )
    what = "registry-wsgi --help / python -c 'import click'"
    if missing := _missing("click"):
        yield Row(what, 2.0, None, detail=missing)
        return

    def command(*arguments: str) -> Side:
        return lambda: _run(bench, arguments, **_with_bytecode(bytecode))

    sides = [command(*_COMMAND, "--help"), command(sys.executable, "-c", "import click")]
    alternate(sides, 1)
    seconds = alternate(sides, rounds)
    yield Row(what, 2.0, ratio(*seconds), detail=compared(*seconds))


def gunicorn(bench: Bench) -> Iterator[Row]:
    """Requests passed through by a real server, with the middleware and without it."""
    what = "requests per second under gunicorn, with the middleware / without"
    if missing := _missing("gunicorn"):
        yield Row(what, 0.97, None, at_least=True, detail=missing)
        return
    with ExitStack() as stack:

        def server(app: str) -> Server:
            started = Server("gunicorn-gthread", f"benchmarks.apps:{app}", bench.trees.scratch())
            stack.callback(started.stop)
            return started

        servers = [server(app) for app in ("wrapped", "plain", "plain")]
        sides = [_one_after_the_other(stack.enter_context(one.connect())) for one in servers]
        with_it, without, again = alternate(sides, 200 * max(2, round(bench.rounds * bench.scale)))
        yield Row(
            what,
            0.97,
            ratio(without, with_it),
            at_least=True,
            detail=f"{compared(without, with_it)} a request; without against without"
            f" {ratio(without, again):.3f}",
        )
        if missing := _missing("wrk"):
            return
        sides = [_wrk(one, max(1, round(2 * bench.scale))) for one in servers]
        with_it, without, again = alternate(sides, 2 * bench.rounds)
        yield Row(
            "the same by wrk, 16 connections",
            None,
            ratio(without, with_it),
            detail=f"{compared(without, with_it)} a request; without against without"
            f" {ratio(without, again):.2f}",
        )


#: Each row, or the rows that are measured together, by the name that selects them.
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "pass": passed_through,
    "delete": delete,
    "calls": calls,
    "prune": prune,
    "remove": remove,
    "memory": memory,
    "verify": verify,
    "import": imports,
    "gunicorn": gunicorn,
}

# What the script `registry-wsgi` does.
_COMMAND = (
    sys.executable,
    "-c",
    "import sys; from registry_wsgi.__main__ import main; sys.exit(main())",
)


class _Deletes:
    """Requests that delete one model after the other, each of which is put back."""

    def __init__(self, bench: Bench, size: int) -> None:
        self._clock = bench.clock
        self._root = bench.trees.models(size)
        self._cache = ModelCache(DiskStore(self._root))
        self._app = LocalRegistry(None, self._cache)
        self._models = random.Random(0).sample(range(size), 10)
        self._done = 0

    def once(self) -> float:
        model = self._models[self._done % len(self._models)]
        self._done += 1
        (self._root / "manifests" / key_of(model)).read_bytes()  # so that it is in memory
        environ = _environ("DELETE", "/api/delete", json.dumps({"model": name_of(model)}).encode())
        statuses: list[str] = []
        started = self._clock()
        self._app(environ, lambda status, *_: statuses.append(status))  # type: ignore[arg-type]
        taken = self._clock() - started
        assert statuses == ["200 OK"]
        self._cache.restore(name_of(model))
        return taken


def _missing(*names: str) -> str:
    """Say which of these is neither a command nor a package here."""
    absent = [name for name in names if not (shutil.which(name) or find_spec(name))]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _unreferenced(bench: Bench, count: int, size: int = 0) -> Path:
    """A store of blobs that nothing needs, and one model, without which no prune begins."""
    root = bench.trees.scratch()
    put_blobs(root / "blobs", map(blob_name, range(count)), b"x" * size)
    path = root / "manifests" / key_of(0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"layers": []}')
    os.sync()
    return root


def _peak(what: str, root: Path, removed: int) -> Row:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.prune_in_child", root],
        cwd=_TESTS,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    blobs, peak = map(int, done.stdout.split())
    assert blobs == removed
    return Row(what, 250, peak * 1_024 / 1e6, "MB")


def _import(bench: Bench, statement: str, bytecode: str) -> Side:
    clock = f"time.{'perf_counter' if bench.clock is time.perf_counter else 'process_time'}()"
    script = f"import time; started = {clock}; {statement}; print({clock} - started)"

    def once() -> float:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | _with_bytecode(bytecode),
            stdout=subprocess.PIPE,
            check=True,
        )
        return float(done.stdout)

    return once


def _with_bytecode(folder: str) -> dict[str, str]:
    return {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}


def _run(bench: Bench, command: Sequence[str], **environment: str) -> float:
    """Run a command, and tell how long that takes."""
    started = bench.clock()
    subprocess.run(command, env=os.environ | environment, stdout=subprocess.DEVNULL, check=True)
    return bench.clock() - started


def _one_after_the_other(connection: socket.socket) -> Side:
    """Ask a server on one open connection, and tell how long a request takes on average."""
    count = 20
    message = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def once() -> float:
        started = time.perf_counter()
        for _ in range(count):
            connection.sendall(message)
            answer = b""
            while not answer.endswith(b"hello"):
                received = connection.recv(4_096)
                assert received, answer
                answer += received
        return (time.perf_counter() - started) / count

    return once


def _wrk(server: Server, seconds: int) -> Side:
    """Ask a server as fast as it answers, and tell how long a request takes on average."""
    options = ("--threads=1", "--connections=16", f"--duration={seconds}")

    def once() -> float:
        done = subprocess.run(
            ["wrk", *options, f"{server.url}/api/tags"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rate = re.search(r"^Requests/sec: +([0-9.]+)$", done.stdout, re.MULTILINE)
        assert rate is not None, done.stdout
        assert "Non-2xx" not in done.stdout, done.stdout
        return 1 / float(rate[1])

    return once


def _environ(method: str, path: str, body: bytes) -> WSGIEnvironment:
    """A request, as a server hands it on."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8434",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8434",
        "HTTP_USER_AGENT": "curl/8.5.0",
        "HTTP_ACCEPT": "*/*",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _start_response(status: str, headers: list[tuple[str, str]], *exc_info: object) -> None:
    """Take the answer."""
