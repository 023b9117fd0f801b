"""``registry-wsgi serve`` over a bucket: each worker opens it, and a mistake is said at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

import registry_wsgi
from kit import s3
from kit.requirements import require
from kit.servers import LIMIT, wait_for

require("click", "rich", "gunicorn")

COMMAND = [sys.executable, "-m", "registry_wsgi"]

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def location() -> str:
    """An empty place in a bucket, with all that it takes but the credentials."""
    endpoint = s3.endpoint()
    where = f"endpoint={quote(endpoint.url)}&region=us-east-1"
    return f"s3://{endpoint.bucket}/{s3.fresh_prefix()}?{where}"


@pytest.fixture
def variables() -> dict[str, str]:
    """The environment for a child, with the credentials."""
    package = str(Path(registry_wsgi.__file__).parents[1])
    return {**os.environ, **s3.endpoint().environment, "PYTHONPATH": package}


@pytest.fixture
def start(variables: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Serve from a child process whose output is a file."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, app: str | None = None) -> subprocess.Popen[bytes]:
        with (tmp_path / "output").open("wb") as output:
            command = [*COMMAND, *arguments]
            if app is not None:
                command = [sys.executable, "-m", "gunicorn", *arguments, app]
            started.append(
                subprocess.Popen(
                    command,
                    env=variables,
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)


def port(process: subprocess.Popen[bytes], folder: Path) -> int:
    """Wait for the port that the server says in its output."""

    def look() -> int | None:
        text = (folder / "output").read_text()
        assert process.poll() is None, text
        found = re.search(r"Listening at: http://\S+:(\d+)", text)
        return int(found[1]) if found else None

    where = wait_for(look, "the port")
    assert where is not None
    return where


def delete(port: int, model: str) -> int:
    """Ask the server at *port* to delete *model*: the status."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/delete",
        data=json.dumps({"model": model}).encode(),
        method="DELETE",
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def put_models(location: str) -> list[str]:
    """Put six models into the bucket; their names."""
    endpoint = s3.endpoint()
    client = endpoint.client(location.partition("?")[0].removeprefix(f"s3://{endpoint.bucket}/"))
    models = [f"m{number}" for number in range(6)]
    for model in models:
        client.put(f"manifests/registry.ollama.ai/library/{model}/latest", b'{"layers": []}')
    return models


def test_each_worker_opens_the_bucket(location: str, start: Start, tmp_path: Path) -> None:
    """The client of a bucket does not survive a fork; every request is answered all the same."""
    models = put_models(location)
    process = start("--models", location, "serve", "--port", "0", "--workers", "2")
    where = port(process, tmp_path)
    assert [delete(where, model) for model in models] == [200] * 6
    assert delete(where, "m0") == 404


@pytest.mark.parametrize(
    "options",
    [
        ("--workers=2",),
        ("--preload", "--workers=2"),
        ("--preload", "--worker-class=gthread", "--threads=4"),
    ],
)
def test_an_app_from_the_environment_is_served_however_it_is_loaded(
    location: str,
    variables: dict[str, str],
    start: Start,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    """Also where the app, and the bucket, are opened before the workers are forked."""
    models = put_models(location)
    variables["OLLAMA_MODELS"] = location
    process = start(*options, "--bind=127.0.0.1:0", app="registry_wsgi:create_app()")
    where = port(process, tmp_path)
    assert [delete(where, model) for model in models] == [200] * 6
    assert delete(where, "m0") == 404


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_mistake_stops_the_start_however_the_app_is_loaded(
    location: str,
    variables: dict[str, str],
    start: Start,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    """Nothing is served, and the log has the message."""
    variables["OLLAMA_MODELS"] = location.replace("s3://", "s3://no-such-")
    process = start(*options, "--bind=127.0.0.1:0", app="registry_wsgi:create_app()")
    assert process.wait(LIMIT) != 0
    assert "there is no such bucket (NoSuchBucket)" in (tmp_path / "output").read_text()


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
def test_a_bucket_is_opened_whoever_waits_for_children(
    location: str, variables: dict[str, str], handler: str
) -> None:
    """Some servers have the system do it; then there is no exit code of the child that looks."""
    script = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGCHLD, signal.{handler})\n"
        "from registry_wsgi import open_cache\n"
        "from registry_wsgi.errors import ConfigurationError\n"
        "cache = open_cache(sys.argv[1])\n"
        "try: open_cache(sys.argv[1].replace('s3://', 's3://no-such-'))\n"
        "except ConfigurationError as error: print(error, flush=True)\n"
        "if os.fork() == 0:\n"
        "    print(cache.models(), flush=True)\n"
        "    os._exit(0)\n"
        "try: os.wait()\n"
        "except ChildProcessError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, location],
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    said, models = done.stdout.splitlines()
    assert "there is no such bucket (NoSuchBucket)" in said
    assert models == "[]"


def test_a_bucket_that_is_not_there_is_one_line(
    location: str, start: Start, tmp_path: Path
) -> None:
    """Before a worker is started, and with the exit code of wrong usage."""
    process = start("--models", location.replace("s3://", "s3://no-such-"), "serve", "--port", "0")
    assert process.wait(LIMIT) == 2
    text = (tmp_path / "output").read_text()
    assert re.fullmatch(r"registry-wsgi: Invalid value for '--models': .*no such bucket.*\n", text)
