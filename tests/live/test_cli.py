"""The command line as a process of its own: at a terminal, serving, interrupted, in frameworks."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import registry_wsgi
from kit.requirements import installation, require, require_command, unavailable
from kit.servers import LIMIT, Answer, read_answer, request, wait_for
from kit.trees import broken, contents
from registry_wsgi import open_cache
from registry_wsgi.cache.history import acting
from registry_wsgi.cli.sample import make_sample

require("click", "rich")

COMMAND = (sys.executable, "-m", "registry_wsgi")
DELETED = "manifests/registry.ollama.ai/library/sample-chat/latest"


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample store, as the one that is configured."""
    root = tmp_path / "models"
    make_sample(root)
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    return root


def environment(**variables: str) -> dict[str, str]:
    """That of the tests, with the package that they test, and output that waits in a buffer."""
    package = str(Path(registry_wsgi.__file__).parents[1])
    settings = {**os.environ, "PYTHONPATH": package, "TERM": "xterm", **variables}
    settings.pop("PYTHONUNBUFFERED", None)
    return settings


def run(*command: str, cwd: Path | None = None, **variables: str) -> tuple[int, str, str]:
    """Run a command to its end, without a terminal."""
    result = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return result.returncode, result.stdout, result.stderr


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Let children hear Ctrl-C, also where the tests run in the background, which do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# At a terminal


def at_terminal(
    typed: str, *arguments: str, prompt: str = "[y/N]", **variables: str
) -> tuple[int, str]:
    """Run the command at a terminal, and type when asked; its exit code, and what it showed."""
    ours, theirs = pty.openpty()
    try:
        with hearing_ctrl_c():
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                env=environment(**{"COLUMNS": "80", **variables}),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                # Ctrl-C reaches whoever the terminal belongs to.
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
            )
        os.close(theirs)
        screen = b""
        last = 0.0
        with suppress(OSError):  # which is how a terminal says that all have gone
            while True:
                if select.select([ours], [], [], 1)[0]:
                    if not (data := os.read(ours, 65_536)):
                        break
                    screen += data
                # Again and again: a Ctrl-C just before a read is not heard by Python, as it is.
                if typed and prompt.encode() in screen and time.monotonic() > last + 1:
                    os.write(ours, typed.encode())
                    last = time.monotonic()
        return process.wait(LIMIT), screen.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["rm", "sample-chat*"], ["sample-chat:latest", "sample-chat:terse"]),
        (["prune", "--age", "0", "--all"], ["sample-chat:latest", "sample-embed:latest"]),
        (["prune", "--age", "0"], ["sample-embed:latest"]),
    ],
)
def test_a_terminal_is_asked_and_no_means_no(
    sample: Path, command: list[str], names: list[str]
) -> None:
    """What would happen is shown before the question, with the names."""
    open_cache().unlink("sample-embed")
    before = contents(sample)
    code, screen = at_terminal("n\n", *command)
    assert code == 1
    shown = screen.partition("[y/N]")[0]
    assert all(f"\n  {name}\n" in shown for name in names)
    assert screen.rstrip().endswith("registry-wsgi: nothing was changed")
    assert contents(sample) == before


def test_at_a_terminal_lists_end_with_sums(sample: Path) -> None:
    """And files have twelve digits, as an ID has."""
    code, screen = at_terminal("", "list")
    assert code == 0
    assert screen.endswith("\n3 models, 3.3 kB together; deleting all of them frees 3.3 kB\n")
    (sample / "blobs" / f"sha256-{'0' * 64}").write_bytes(b"orphan")
    code, screen = at_terminal("", "orphans")
    assert re.search("^000000000000…  +6 bytes ", screen, re.MULTILINE)
    assert re.fullmatch("1 file, 6 bytes, .* on disk", screen.splitlines()[-1])


def test_a_narrow_terminal_gets_whole_names_and_fewer_columns(sample: Path) -> None:
    """A wide one gets them all; a script does, however many letters fit into a line."""
    for width, every in ((70, False), (200, True)):
        code, screen = at_terminal("", "list", COLUMNS=str(width))
        assert code == 0
        lines = re.sub(r"\x1b\[\d*m", "", screen).splitlines()
        assert any(line.startswith("sample-chat:terse ") for line in lines)
        assert all(len(line) <= width for line in lines[:-1])
        headings = set(lines[0].split())
        assert {"NAME", "SIZE", "FREES"} < headings
        assert ("ID" in headings) == every
    _, output, _ = run(*COMMAND, "list", COLUMNS="40")
    assert {"ID", "SHARED", "ARRIVED"} < set(output.splitlines()[0].split())


def test_long_names_wrap_and_take_nothing_else_away(sample: Path) -> None:
    """In the history each time, each size and whoever made a change stay readable."""
    cache = open_cache()
    name = f"hf.co/{'someone' * 4}/{'A-Long-Name' * 5}-GGUF:Q4_K_M"
    with acting("alice@example.org", "HTTP 2001:db8:85a3::8a2e:370:7334"):
        cache.protect(name)
        assert cache.unlink("sample-chat:terse")
    code, screen = at_terminal("", "history")
    assert code == 0
    lines = re.sub(r"\x1b\[\d*m", "", screen).splitlines()
    assert all(len(line) <= 80 for line in lines)
    first = [line for line in lines if re.match(r"[\d-]{10} [\d:]{5}  (delete|protect) ", line)]
    assert len(first) == 2
    assert any(re.search(r" \d[\d.]* (kB|bytes)  ", line) for line in first)
    start, end = lines[0].index("MODEL"), lines[0].index("SIZE")
    assert name.lower() in "".join(line[start:end].strip() for line in lines)
    start = lines[0].index("BY")
    assert "alice@example.org," in "".join(line[start:].strip() for line in lines)


def test_yes_at_a_terminal_goes_on(sample: Path) -> None:
    """Both of the two that match go, and a single one is not asked about."""
    code, screen = at_terminal("y\n", "rm", "sample-chat*")
    assert code == 0
    assert "\nDeleted 2 models\nUndo: " in screen
    code, screen = at_terminal("", "rm", "sample-embed")
    assert (code, "?" in screen) == (0, False)
    assert open_cache().models() == []
    code, screen = at_terminal("y\n", "prune", "--age", "0")
    assert (code, screen.count("\n  sample-embed:latest\n")) == (0, 2)
    assert contents(sample) == {}
    code, screen = at_terminal("", "prune", "--age", "0")  # there is nothing to ask about
    assert (code, screen.endswith("Removed nothing.\n"), "y/N" in screen) == (0, True, False)


def test_yes_given_before_is_not_asked_for(sample: Path) -> None:
    """Nor is a dry run, which removes nothing."""
    open_cache().unlink("sample-embed")
    for option, verb in (("-n", "Would remove 1 model"), ("-y", "Removed 1 model")):
        code, screen = at_terminal("", "prune", "--age", "0", option)
        assert (code, verb in screen, "y/N" in screen) == (0, True, False)


def test_ctrl_c_at_a_question_changes_nothing(sample: Path) -> None:
    """Exit code 130, no traceback."""
    before = contents(sample)
    code, screen = at_terminal("\x03", "rm", "*")
    assert code == 130
    assert "Traceback" not in screen
    assert contents(sample) == before


def test_a_terminal_has_bold_and_no_color_is_heard(sample: Path) -> None:
    """And a pipe has neither."""
    assert "\x1b[1m" in at_terminal("", "list")[1]
    for options, variables in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        screen = at_terminal("", *options, "verify", "--deep", **variables)[1]
        assert not re.search(r"\x1b\[[0-9;]*3\d", screen)
    assert "\x1b" not in run(*COMMAND, "list")[1]


def test_a_deep_check_shows_how_far_it_is(sample: Path) -> None:
    """And wipes that off in the end."""
    code, screen = at_terminal("", "verify", "--deep")
    assert code == 0
    assert "reading blobs" in screen
    assert "3 models, 7 blobs, 3.3 kB read: all is well\n" in screen
    assert "reading" not in run(*COMMAND, "verify", "--deep")[2]


def test_ctrl_c_ends_a_deep_check_at_once(sample: Path) -> None:
    """However much there is still to read."""
    digest = "0" * 64
    with (sample / "blobs" / f"sha256-{digest}").open("wb") as blob:
        blob.truncate(1 << 40)
    manifest = json.loads((sample / DELETED).read_bytes())
    manifest["layers"].append({"digest": f"sha256:{digest}", "size": 1 << 40})
    (sample / DELETED).write_text(json.dumps(manifest))
    code, screen = at_terminal("\x03", "verify", "--deep", prompt="reading blobs")
    assert code == 130
    assert "Traceback" not in screen


def test_a_long_name_at_a_terminal_is_folded_and_whole(tmp_path: Path) -> None:
    """It takes two lines, and the columns beside it stay."""
    make_sample(tmp_path)
    manifests = tmp_path / "manifests" / "registry.ollama.ai" / "library"
    (manifests / "sample-chat").rename(manifests / ("x" * 80))
    screen = at_terminal("", "--models", str(tmp_path), "list")[1]
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in screen.splitlines())
    assert screen.count("x") == 160


# Serving


class Process:
    """The command in a child process, serving."""

    def __init__(
        self, folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.output = folder / "output.txt"
        with self.output.open("wb") as output, hearing_ctrl_c():
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, "--port=0"],
                cwd=folder,
                env=environment(TMPDIR=str(folder), HOME=str(folder), **(variables or {})),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has put out so far."""
        return self.output.read_text()

    def port(self) -> int:
        """Wait until it serves, and tell where."""

        def look() -> re.Match[str] | None:
            assert self.process.poll() is None, self.text
            return re.search(r"(?:Serving|Listening at:) http://\S+:(\d+)", self.text)

        found = wait_for(look, "the port")
        assert found is not None
        return int(found[1])

    def delete(self, model: str, **headers: str) -> Answer:
        """Ask it to delete *model*."""
        body = json.dumps({"model": model}).encode()
        with socket.create_connection(("127.0.0.1", self.port()), timeout=LIMIT) as connection:
            connection.sendall(request("DELETE", "/api/delete", body, headers))
            answer = read_answer(connection, "DELETE")
        assert answer is not None
        return answer

    def interrupt(self) -> int:
        """Press Ctrl-C, and tell the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(2 * LIMIT)  # gunicorn kills a worker that misses it after 30 s


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command in an empty folder, which is its home too."""
    started: list[Process] = []

    def start(*arguments: str, **variables: str) -> Process:
        (folder := tmp_path / f"home{len(started)}").mkdir()
        started.append(Process(folder, *arguments, variables=variables))
        return started[-1]

    yield start
    for command in started:
        with suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.wait(LIMIT)


def test_the_demo_is_deleted_from_and_restored(start: Start) -> None:
    """All by the lines that it prints, on a machine without models."""
    require_command("curl")
    demo = start("demo")
    demo.port()
    lines = [line.strip() for line in demo.text.splitlines()]
    (root,) = demo.folder.glob("registry-wsgi-*")
    assert lines[0] == f"A sample of 3 models, in {root}:"
    before = contents(root)
    assert broken(root) == []
    delete, restore = lines[7], lines[9]

    assert "HTTP/1.1 200 OK" in run("sh", "-c", delete)[1]
    assert not (root / DELETED).exists()
    assert '"not_found"' in run("sh", "-c", delete)[1]
    assert run("sh", "-c", restore) == (0, "Restored sample-chat:latest\n", "")
    assert contents(root) == before
    listed = run("sh", "-c", f"{lines[11]}; {shlex.join(COMMAND)} list -v")[1]
    assert listed.count("\nsample-") == 3

    assert demo.interrupt() == 0
    logged = demo.text.splitlines()[13:]
    assert logged[0].endswith(" INFO DELETE /api/delete 200")
    assert logged[1].endswith(" WARNING DELETE /api/delete 404 model not found")
    assert [*filter(None, logged[2:])] == []
    assert not root.exists()


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_it_listens_on_loopback_alone(sample: Path, start: Start, command: str) -> None:
    """An address that all interfaces would have does not answer."""
    require("gunicorn")
    port = start(command).port()
    for host, listens in (("127.0.0.1", True), ("127.0.0.2", False)):
        with socket.socket() as client:
            client.settimeout(LIMIT)
            assert (client.connect_ex((host, port)) == 0) == listens


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_port_in_use_is_one_line(sample: Path, tmp_path: Path, command: str) -> None:
    """And nothing is made or started for nothing."""
    require("gunicorn")
    (folder := tmp_path / "tmp").mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        result = run(*COMMAND, command, "--port", str(port), TMPDIR=str(folder))
    expected = f"registry-wsgi: 127.0.0.1 port {port}: Address already in use\n"
    assert result == (1, "", expected)
    assert [*folder.iterdir()] == []


def test_serve_deletes_and_ends_with_ctrl_c(sample: Path, start: Start) -> None:
    """With a line in the log for each delete, which is not nobody's."""
    require("gunicorn")
    server = start("serve")
    assert server.delete("sample-chat").status == 200
    assert not (sample / DELETED).exists()
    assert server.delete("sample-chat").status == 404
    assert server.interrupt() == 0
    assert " INFO DELETE /api/delete 200\n" in server.text
    assert not (server.folder / ".gunicorn").exists()


def test_the_steps_of_ollamas_own_command_work(sample: Path, start: Start) -> None:
    """`ollama rm` asks whether a server is there, unloads the model, and deletes it."""
    require("gunicorn")
    server = start("serve")

    def ask(method: str, path: str, body: bytes = b"") -> Answer:
        address = ("127.0.0.1", server.port())
        with socket.create_connection(address, timeout=LIMIT) as connection:
            connection.sendall(request(method, path, body))
            answer = read_answer(connection, method)
        assert answer is not None
        return answer

    assert (ask("HEAD", "/").status, ask("HEAD", "/").body) == (200, b"")
    assert ask("GET", "/").body.startswith(b"registry-wsgi is running.")
    unload = ask("POST", "/api/generate", b'{"model":"sample-chat","keep_alive":0}')
    assert (unload.status, json.loads(unload.body)["error"]) == (404, "not found")
    assert server.delete("sample-chat").status == 200


def test_serve_has_the_page_if_asked(sample: Path, start: Start) -> None:
    """A form of it deletes; a path that cannot be the page's is refused at the start."""
    require("gunicorn")
    port = start("serve", "--page").port()
    site = {"Origin": f"http://127.0.0.1:{port}", "Host": f"127.0.0.1:{port}"}
    site["Content-Type"] = "application/x-www-form-urlencoded"
    statuses = []
    for message in (
        request("GET", "/registry/", headers={"Host": "localhost"}),
        request("GET", "/registry/", headers={"Host": "evil.example"}),
        request("POST", "/registry/do", b"delete=sample-chat", site),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
            connection.sendall(message)
            answer = read_answer(connection)
        assert answer is not None
        statuses.append(answer.status)
    assert statuses == [200, 403, 303]
    assert not (sample / DELETED).exists()
    code, _, said = run(*COMMAND, "serve", "--page", "registry", "--port", "0")
    assert (code, said) == (
        1,
        'registry-wsgi: page: "registry": not a path for the page, as /registry/ is\n',
    )


def test_serve_prunes_every_so_often(sample: Path, start: Start) -> None:
    """In one of its workers, and ends as always."""
    server = start("serve", "--workers=2", "--prune-every=1s")
    wait_for(lambda: "INFO pruned: 0 models, 0 blobs" in server.text, "a prune")
    assert server.delete("sample-chat").status == 200
    assert server.interrupt() == 0
    assert "Traceback" not in server.text


def test_serve_wraps_an_app_of_the_working_directory(sample: Path, start: Start) -> None:
    """Which gets all but the deletes."""
    require("gunicorn")
    server = start("--models", str(sample), "serve", "--app", "mine:make('hello')")
    (server.folder / "mine.py").write_text(
        "def make(text):\n"
        "    def app(environ, start_response):\n"
        "        start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "        return [text.encode()]\n"
        "    return app\n"
    )
    assert server.delete("sample-chat").status == 200
    with socket.create_connection(("127.0.0.1", server.port()), timeout=LIMIT) as connection:
        connection.sendall(request("GET", "/"))
        answer = read_answer(connection)
    assert answer is not None
    assert answer.body == b"hello"


def test_an_app_that_does_not_load_ends_it(sample: Path, start: Start) -> None:
    """With exit code 1, and a line that says why."""
    require("gunicorn")
    server = start("serve", "--app", "json:nothing")
    assert server.process.wait(LIMIT) == 1
    assert "'nothing' in 'json'" in server.text
    assert "Traceback" not in server.text


@pytest.mark.parametrize("source", ["file", "variable"])
def test_serve_with_a_token_lets_in_who_has_it(
    sample: Path, start: Start, tmp_path: Path, source: str
) -> None:
    """On all interfaces, too."""
    require("gunicorn")
    (tmp_path / "tokens").write_text("old\nsecret\n")
    if source == "file":
        server = start(
            "serve", "--host=0.0.0.0", "--workers=2", "--token-file", str(tmp_path / "tokens")
        )
    else:
        server = start("serve", "--host=0.0.0.0", REGISTRY_WSGI_TOKEN="secret")
    refused = server.delete("sample-chat")
    assert (refused.status, refused.header("WWW-Authenticate")) == (401, "Bearer")
    assert server.delete("sample-chat", Authorization="Bearer secre").status == 401
    assert (sample / DELETED).exists()
    assert server.delete("sample-chat", Authorization="Bearer secret").status == 200


def test_serve_without_a_token_has_no_name_but_that_of_the_machine(
    sample: Path, start: Start
) -> None:
    """A page in a browser that reaches it under its own name cannot delete, unless told so."""
    require("gunicorn")
    server = start("serve")
    assert server.delete("sample-chat", Host="evil.example").status == 403
    assert (sample / DELETED).exists()
    for host in ("localhost", f"127.0.0.1:{server.port()}", "[::1]"):
        assert server.delete("sample-chat", Host=host).status == 200
        open_cache().restore("sample-chat")
    server = start("serve", "--trusted-host=models.example")
    assert server.delete("sample-chat", Host="localhost").status == 403
    assert server.delete("sample-chat", Host="models.example").status == 200


# How it ends


@pytest.mark.parametrize("output", ["closed pipe", "full disk", "none"])
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_no_traceback(
    sample: Path, output: str, arguments: list[str]
) -> None:
    """A reader that has had enough is no error to speak of; a full disk is one line."""
    command = [*COMMAND, *arguments]
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
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    os.close(writer)
    assert result.returncode == (0 if output == "none" else 1)
    expected = "registry-wsgi: No space left on device\n"
    assert result.stderr == (expected if output == "full disk" else "")


def test_without_click_it_says_what_to_install(tmp_path: Path) -> None:
    """One line, and exit code 1; as a module and as the installed command."""
    for package in ("click", "rich"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(
            f"raise ModuleNotFoundError('gone', name={package!r})\n"
        )
    path = os.pathsep.join([str(tmp_path), str(Path(registry_wsgi.__file__).parents[1])])
    code, out, err = run(*COMMAND, "list", PYTHONPATH=path)
    assert (code, out) == (1, "")
    assert err == (
        "registry-wsgi: this needs packages that are not installed: pip install"
        " 'registry-wsgi[cli]'\n"
    )


# In a project


def test_django_has_the_commands(sample: Path, tmp_path: Path) -> None:
    """In a project as `startproject` makes it, with the app installed."""
    require("django")
    (project := tmp_path / "project").mkdir()
    assert run(sys.executable, "-m", "django", "startproject", "mysite", ".", cwd=project)[0] == 0
    settings = project / "mysite" / "settings.py"
    text = settings.read_text()
    settings.write_text(text.replace("INSTALLED_APPS = [", "INSTALLED_APPS = ['registry_wsgi',"))

    def manage(*arguments: str) -> tuple[int, str, str]:
        return run(sys.executable, "manage.py", *arguments, cwd=project)

    with settings.open("a") as more:
        more.write("import os\nREGISTRY_WSGI = eval(os.environ.get('GIVEN', '{}'))\n")
    assert manage("check")[0] == 0
    code, _, err = run(
        sys.executable, "manage.py", "check", cwd=project, GIVEN="{'RETENTION': '7'}"
    )
    assert (code, "(registry_wsgi.E001) REGISTRY_WSGI['RETENTION']: invalid" in err) == (1, True)
    _in_a_project(sample, "python manage.py registry", lambda *words: manage("registry", *words))
    call = (
        "from django.core.management import call_command as c; c('registry', 'prune', '--age={}')"
    )
    assert manage("shell", "-c", call.format("7d"))[0] == 0
    assert manage("shell", "-c", call.format("7"))[0] != 0


def test_flask_has_the_commands(sample: Path, tmp_path: Path) -> None:
    """Beside those of the app, with nothing to set up."""
    require("flask")
    installation()  # its entry point is in the metadata
    (tmp_path / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")

    def flask(*arguments: str) -> tuple[int, str, str]:
        return run(sys.executable, "-m", "flask", *arguments, cwd=tmp_path)

    assert "\n  registry " in flask("--help")[1]
    _in_a_project(sample, "python -m flask registry", lambda *words: flask("registry", *words))


def _in_a_project(sample: Path, program: str, command: Callable[..., tuple[int, str, str]]) -> None:
    before = contents(sample)
    code, out, _ = command("list", "--json")
    assert (code, len(json.loads(out))) == (0, 3)
    code, out, _ = command("rm", "sample-chat")
    assert code == 0
    assert out.splitlines()[-1] == f"Undo: {program} --models {sample} restore sample-chat:latest"
    assert command("restore", "sample-chat")[0] == 0
    assert contents(sample) == before
    assert command("prune", "--age", "7d") == (0, "Removed nothing.\n", "")
    code, out, err = command("prune", "--age", "7")
    assert (code, out) == (2, "")
    assert 'invalid duration "7"' in err
    code, _, err = command("rm", "absent")
    assert (code, "Traceback" in err) == (1, False)
    assert f"Usage: {program} [OPTIONS]" in command("--help")[1]
