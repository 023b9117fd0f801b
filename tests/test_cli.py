"""`python -m registry_wsgi`: what the README promises of the first five minutes."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import registry_wsgi
from registry_wsgi import open_cache
from registry_wsgi.__main__ import main
from registry_wsgi.sample import make_sample
from support import Tree, broken, contents, unavailable

LIMIT = 20.0  # seconds for anything that is waited for

SAMPLE = ["sample-chat:latest", "sample-chat:terse", "sample-embed:latest"]
DELETED = "manifests/registry.ollama.ai/library/sample-chat/latest"


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample store, as the one that is configured."""
    root = tmp_path / "models"
    make_sample(root)
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    return root


# The sample


def test_the_sample_is_three_whole_models_of_a_few_kilobytes(tmp_path: Path) -> None:
    """Every blob that a manifest names is there, and has the content that its name says."""
    assert make_sample(tmp_path / "new" / "models") == SAMPLE
    assert broken(tmp_path) == []
    cache = open_cache(tmp_path / "new" / "models")
    assert [model.name.rpartition("/")[2] for model in cache.models()] == SAMPLE
    assert sum(map(len, contents(tmp_path).values())) < 10_000


def test_two_models_of_the_sample_share_their_weights(tmp_path: Path) -> None:
    """So what a delete leaves in place can be seen."""
    make_sample(tmp_path)
    shared = [model.shared for model in open_cache(tmp_path).models()]
    assert shared[0] == shared[1] > 1_000
    assert shared[2] == 0


def test_the_sample_can_be_made_again_in_its_place(tmp_path: Path) -> None:
    """Its content does not depend on when or where it is made."""
    make_sample(tmp_path)
    before = contents(tmp_path)
    make_sample(tmp_path)
    assert contents(tmp_path) == before


# The commands, within this process


def test_list_shows_each_model_with_its_size(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names are short, as Ollama shows them."""
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == SAMPLE
    assert all(re.search(r" [12],\d{3} bytes$", line) for line in lines)


def test_deleted_says_until_when_a_model_can_be_restored(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And that it cannot, once its blobs are gone."""
    open_cache().unlink("sample-embed")
    open_cache().unlink("sample-chat")
    for path in sample.glob("trash/*/blobs/*"):
        if (sample / "blobs" / path.name).stat().st_size == 1_050:  # the weights of sample-embed
            (sample / "blobs" / path.name).unlink()
            path.unlink()
    assert main(["deleted"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"sample-chat:latest .* bytes, can be restored until [\d-]{10} [\d:]{5}", first
    )
    assert re.fullmatch(r"sample-embed:latest .* bytes, cannot be restored", second)


def test_restore_brings_a_model_back(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there as before."""
    before = contents(sample)
    open_cache().unlink("sample-chat")
    assert main(["restore", "sample-chat"]) == 0
    assert capsys.readouterr().out == "restored registry.ollama.ai/library/sample-chat:latest\n"
    assert contents(sample) == before


def test_an_empty_store_has_nothing_to_list(
    tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No output, no error."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    assert main(["list"]) == main(["deleted"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["restore", "sample-chat"], "sample-chat:latest: no deleted model has this name"),
        (["restore", "../x"], 'invalid or missing name: "../x"'),
        (["restore", "a\nb"], 'invalid or missing name: "a\\nb"'),
        (["restore", ""], 'invalid or missing name: ""'),
        (["restore", "x" * 2_000], "invalid or missing name"),
    ],
)
def test_what_fails_is_one_line_on_stderr(
    sample: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    """And exit code 1."""
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"registry_wsgi: .*\n", captured.err)
    assert message in captured.err


@pytest.mark.parametrize("command", [[], ["serve"], ["list"], ["deleted"], ["restore", "x"]])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OLLAMA_MODELS", "/nonexistent/models", "/nonexistent/models: no such directory"),
        ("REGISTRY_WSGI_RETENTION", "7", 'invalid duration "7"'),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *,
    command: list[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    """A misspelt directory does not silently become a sample."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OLLAMA_MODELS", os.environ.get("OLLAMA_MODELS", str(tmp_path)))
    assert main([*command, "--port", "0"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"registry_wsgi: {variable}: {message}")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["frobnicate"],
        ["restore"],
        ["restore", "a", "b"],
        ["list", "a"],
        ["--port", "x"],
        ["--port", "-1"],
        ["--port", "65536"],
        ["--port"],
        ["--frobnicate"],
    ],
    ids=" ".join,
)
def test_nonsense_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the usage on stderr."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: python -m registry_wsgi ")


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "{serve,list,deleted,restore}" in capsys.readouterr().out


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`serve` goes as far as it can without waiting for requests."""
    level = logging.getLogger("werkzeug").level
    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", lambda self: None)
    yield
    logging.getLogger("werkzeug").setLevel(level)


@pytest.mark.usefixtures("served")
def test_serve_says_where_the_models_are_and_what_to_type(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interpreter is the one in use, as the reader's shell may have another."""
    assert main(["--port", "0"]) == 0
    out = capsys.readouterr().out
    assert f"Models in {sample}: 3\n" in out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == SAMPLE
    python = shlex.quote(sys.executable)
    assert f"OLLAMA_MODELS={sample} {python} -m registry_wsgi restore {SAMPLE[0]}\n" in out


@pytest.mark.usefixtures("served")
def test_serve_without_models_has_nothing_to_delete(
    tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is there is served, even if it is empty."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    assert main(["serve", "--port", "0"]) == 0
    out = capsys.readouterr().out
    assert f"Models in {tree.root}: none\nServing http://127.0.0.1:" in out
    assert "curl" not in out


@pytest.mark.usefixtures("served")
def test_serve_does_not_promise_a_way_back_when_there_is_none(
    sample: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a retention of 0 a delete is final."""
    monkeypatch.setenv("REGISTRY_WSGI_RETENTION", "0")
    assert main(["--port", "0"]) == 0
    out = capsys.readouterr().out
    assert "It cannot be brought back: REGISTRY_WSGI_RETENTION is 0.\n" in out
    assert "registry_wsgi restore" not in out


@pytest.mark.usefixtures("served")
def test_serve_can_have_its_models_in_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there are none in there."""
    monkeypatch.setenv("OLLAMA_MODELS", "memory:")
    assert main(["--port", "0"]) == 0
    assert "Models in memory:: none\n" in capsys.readouterr().out


@pytest.mark.usefixtures("served")
def test_a_port_in_use_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no sample is made for nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"registry_wsgi: port {port}: Address already in use (0: any that is free)\n"
    )
    assert list(tmp_path.iterdir()) == []


# The command, as a process of its own


class Command:
    """`python -m registry_wsgi` in a child process, with its output."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(Path(registry_wsgi.__file__).parents[1]),
            **environment,
        }
        self.errors = folder / "stderr"
        # Where the tests run in the background, a child would not hear Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self.errors.open("wb") as errors:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "registry_wsgi", "--port=0", *arguments],
                    cwd=folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            self.lines = []
            for line in stdout:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("Serving "):
                    break
            else:
                self.process.wait(LIMIT)
                pytest.fail(f"it does not serve: {self.lines} {self.errors.read_text()}")

    def printed(self, start: str) -> str:
        """The one printed line that starts with *start* after its indent."""
        (line,) = [line for line in self.lines if line.strip().startswith(start)]
        return line.strip()

    def request(self) -> tuple[int, bytes]:
        """Send the request that the printed curl line would."""
        curl, *options, url, _, body = shlex.split(self.printed("curl "))
        assert [curl, *options] == ["curl", "-i", "-X", "DELETE"]
        request = urllib.request.Request(url, body.encode(), method="DELETE")
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in a shell, beside the server."""
        return subprocess.run(
            command,
            check=False,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def interrupt(self) -> int:
        """Press Ctrl-C, and tell the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT)


Serve = Callable[..., Command]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start the command in an empty home."""
    started = []

    def start(environment: dict[str, str] | None = None, *arguments: str) -> Command:
        started.append(Command(tmp_path, environment or {}, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.wait(LIMIT)


@pytest.mark.live
def test_a_model_of_the_sample_is_deleted_and_brought_back(serve: Serve) -> None:
    """All by the lines that are printed, on a machine without models."""
    command = serve()
    assert "so this is a sample" in command.lines[0]
    root = Path(command.printed("Models in ").removeprefix("Models in ").removesuffix(": 3"))
    assert root.parent == command.folder
    before = contents(root)
    assert broken(root) == []

    assert command.request() == (200, b"")
    assert not (root / DELETED).exists()
    status, body = command.request()
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    restore = command.printed("OLLAMA_MODELS=")
    there = command.run(re.sub("restore .*", "list", restore)).stdout
    assert "sample-chat:terse" in there
    assert "sample-chat:latest" not in there
    assert "sample-chat:latest" in command.run(re.sub("restore .*", "deleted", restore)).stdout

    result = command.run(restore)
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(root) == before
    assert command.request() == (200, b"")


@pytest.mark.live
@pytest.mark.parametrize("home", [True, False], ids=["in the home", "elsewhere"])
def test_the_models_that_are_there_are_served(serve: Serve, tmp_path: Path, home: bool) -> None:
    """Also in a directory that a shell would take for several words, and worse."""
    root = tmp_path / (".ollama/models" if home else "it's my $HOME/é")
    make_sample(root)
    command = serve({} if home else {"OLLAMA_MODELS": os.path.relpath(root, tmp_path)})
    assert command.lines[0] == f"Models in {root}: 3"
    before = contents(root)
    assert command.request() == (200, b"")
    assert command.run(command.printed("OLLAMA_MODELS=")).returncode == 0
    assert contents(root) == before


@pytest.mark.live
def test_requests_are_logged_once_each(serve: Serve) -> None:
    """By the middleware, and not by the server as well."""
    command = serve({}, "serve")
    command.request()
    command.request()
    assert command.interrupt() in (0, 130)
    lines = command.errors.read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" INFO DELETE /api/delete 200")
    assert lines[1].endswith(" WARNING DELETE /api/delete 404 model not found")


@pytest.mark.live
def test_ctrl_c_ends_it_without_a_word(serve: Serve) -> None:
    """There is no traceback."""
    command = serve()
    assert command.interrupt() in (0, 130)
    assert command.errors.read_text() == ""


@pytest.mark.live
def test_it_listens_on_loopback_alone(serve: Serve) -> None:
    """An address that all interfaces would have does not answer."""
    port = int(serve().lines[-1].split(":")[-1].split()[0])
    for host, listens in (("127.0.0.1", True), ("127.0.0.2", False)):
        with socket.socket() as client:
            client.settimeout(LIMIT)
            assert (client.connect_ex((host, port)) == 0) == listens


@pytest.mark.live
@pytest.mark.parametrize("output", ["closed pipe", "full disk", "none"])
def test_output_that_cannot_be_written_is_no_traceback(
    sample: Path, tmp_path: Path, output: str
) -> None:
    """A reader that has had enough is no error to speak of; a full disk is one line."""
    command = [sys.executable, "-m", "registry_wsgi", "list"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(registry_wsgi.__file__).parents[1]),
    }
    if output == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    elif output == "full disk":
        if not os.path.exists("/dev/full"):
            unavailable("there is no /dev/full")
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        command = ["sh", "-c", f"{shlex.join(command)} >&-"]
        writer = os.open(os.devnull, os.O_WRONLY)
    result = subprocess.run(
        command,
        check=False,
        env=environment,
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    os.close(writer)
    assert result.returncode == (0 if output == "none" else 1)
    expected = "registry_wsgi: [Errno 28] No space left on device\n"
    assert result.stderr == (expected if output == "full disk" else "")
