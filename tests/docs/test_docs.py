"""What the README and the documentation show is run here, word for word."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

import registry_wsgi
from kit.requirements import require, require_command
from kit.trees import Tree, blob
from registry_wsgi import DiskStore, LocalRegistry, ModelCache, RegistryError, open_cache
from registry_wsgi.__main__ import main
from registry_wsgi.http.authorization import bearer_token, trusted_hosts
from registry_wsgi.settings import Settings

LIMIT = 30.0  # seconds for anything that is waited for

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
README = ROOT / "README.rst"
PAGES = [README, *sorted(DOCS.glob("*.rst"))]

UNITS = (
    *("registry-wsgi-prune.service", "registry-wsgi-prune.timer"),
    *("registry-wsgi-verify.service", "registry-wsgi-verify.timer"),
    *("registry-wsgi-evict.service", "registry-wsgi-evict.timer"),
)

# What `pip` fetches is not fetched for a test.
SETS_UP = re.compile(r"python3 -m venv \.venv && .*\bpip install ")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language that stand in a page."""
    pattern = rf"^\.\. code-block:: {language}\n\n((?:(?:    .*)?\n)+)"
    text = page.read_text() + "\n"
    return [textwrap.dedent(found) for found in re.findall(pattern, text, re.MULTILINE)]


def lines(page: Path, language: str) -> list[str]:
    """The lines of all code blocks of a language that stand in a page."""
    return [line for block in blocks(page, language) for line in block.splitlines() if line]


@pytest.fixture
def tree(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A store that is configured, with the model that the pages delete."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tree.root))
    tree.add("tinyllama", b"weights")
    return tree


def delete(client: Any, model: str = "tinyllama", **options: Any) -> int:
    """Delete a model through a test client, and tell the status."""
    response = client.delete("/api/delete", json={"model": model}, **options)
    return int(response.status_code)


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tree: Tree) -> None:
    """Each block that is not one of the examples, with the names that the text speaks of."""
    names = {
        "__name__": "page",
        "app": lambda environ, start_response: [],
        "GGUFFolder": runpy.run_path(str(EXAMPLES / "gguf_folder.py"))["GGUFFolder"],
        "LocalRegistry": LocalRegistry,
        "open_cache": open_cache,
        "ProxyFix": ProxyFix,
    }
    for block in blocks(page, "python"):
        if "flask" in block:
            require("flask")
        exec(compile(block, page.name, "exec"), dict(names))


def test_the_example_of_the_readme_deletes(tree: Tree) -> None:
    """It is a whole Flask app."""
    require("flask")
    (block,) = blocks(README, "python")
    names: dict[str, Any] = {"__name__": "page"}
    exec(block, names)
    client = names["app"].test_client()
    assert delete(client) == 200
    assert not tree.path("tinyllama").exists()
    assert client.get("/").status_code == 404


def test_the_index_and_the_readme_show_the_same_app() -> None:
    """The reader has to learn one."""
    (block,) = blocks(README, "python")
    assert block.strip() == (EXAMPLES / "quickstart.py").read_text().strip()


def test_the_quick_start_is_short() -> None:
    """Fewer than 15 lines to type."""
    app = (EXAMPLES / "quickstart.py").read_text().splitlines()
    assert len(app) + len(lines(DOCS / "index.rst", "sh")) < 15


def test_the_readme_shows_what_its_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the names of folders."""
    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", lambda self: None)
    require("click", "rich")
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *_: str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")  # as for the reader, who has not activated the venv
    assert main(["demo", "--port", "0"]) == 0
    printed = capsys.readouterr().out.replace(
        sys.executable, "/home/you/registry-wsgi/.venv/bin/python"
    )
    printed = printed.replace(str(tmp_path), "/tmp/registry-wsgi-k3x9")
    printed = re.sub(r"(?<=127\.0\.0\.1:)\d+", "8434", printed)
    (shown,) = blocks(README, "text")
    assert shown.strip() == printed.strip()


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """Each is a file of the checkout."""
    links = re.findall(r"<([^<>\s:]+)>`_", README.read_text())
    assert {"docs/wsgi.rst", "LICENSE"} <= set(links)
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("name", registry_wsgi.__all__)
def test_every_public_name_is_in_the_api(name: str) -> None:
    """As `from registry_wsgi import` has it."""
    text = (DOCS / "api.rst").read_text()
    assert f":: registry_wsgi.{name}\n" in text or name == "RegistryError"
    assert ".. automodule:: registry_wsgi.errors\n   :members:" in text


# Examples


def environment() -> dict[str, str]:
    """That of the tests, and the package that they test."""
    return {**os.environ, "PYTHONPATH": str(Path(registry_wsgi.__file__).parents[1])}


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a child process."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def run_example(name: str) -> dict[str, Any]:
    """Run an example, and give what it defines."""
    return runpy.run_path(str(EXAMPLES / name))


def test_every_example_is_shown_and_run() -> None:
    """By the tests below, or as a server by the commands of its page."""
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"literalinclude:: examples/(\S+)", page.read_text())
    }
    there = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert shown == there
    users = [Path(__file__), *(ROOT / "tests" / "live").glob("*.py")]
    users += (ROOT / "tests" / "kit").glob("*.py")
    source = "".join(path.read_text() for path in users)
    assert [name for name in there if f'"{name}"' not in source] == []


def test_proxy(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It streams, follows no redirect, and no spelling of the path gets a delete to Ollama."""
    require("httpx")
    asked: list[tuple[str, str, bytes]] = []
    go_on = threading.Event()

    class Ollama(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.requestline.split()[1]  # in `self.path` a double slash is single
            asked.append((self.command, path, body))
            moved = path.startswith("//")
            self.send_response(307 if moved else 200)
            if moved:
                self.send_header("Location", path[1:])
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in (b"one", b"two"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                assert moved or go_on.wait(LIMIT)
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names of http.server

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OLLAMA_UPSTREAM", f"http://127.0.0.1:{server.server_port}")
        example = run_example("proxy.py")
        client = Client(example["application"])
        answer = client.post("/api/chat?a=b%20c", data=b'{"model": "tinyllama"}')
        pieces = answer.iter_encoded()
        assert next(iter(pieces)) == b"one"  # while Ollama still waits
        go_on.set()
        assert b"".join(pieces) == b"two"
        answer.close()
        assert asked == [("POST", "/api/chat?a=b%20c", b'{"model": "tinyllama"}')]
        asked.clear()
        for path in ("/api/delete/", "//api/delete", "/x/../api/delete", "/API/delete"):
            environ = {"PATH_INFO": path}
            for method in ("DELETE", "GET"):
                answer = client.open(method=method, environ_overrides=environ, buffered=True)
                assert (answer.status_code == 405) == (method == "DELETE"), path
        assert {method for method, _, _ in asked} == {"GET"}
        moved = client.get(environ_overrides={"PATH_INFO": "//api/tags"}, buffered=True)
        assert (moved.status_code, moved.headers["Location"]) == (307, "/api/tags")
        assert asked[-1] == ("GET", "//api/tags", b"")
        assert delete(client) == 200
        server.shutdown()
        example["client"].close()
    assert not tree.path("tinyllama").exists()


def test_plain(tree: Tree) -> None:
    """The app answers what is not for the middleware."""
    client = Client(run_example("plain.py")["application"])
    assert client.get("/").text == "Hello from the app\n"
    assert delete(client) == 200
    assert delete(client) == 404


def test_quickstart(tree: Tree) -> None:
    """As does Flask."""
    require("flask")
    assert delete(run_example("quickstart.py")["app"].test_client()) == 200


@pytest.mark.parametrize("given", [None, "secre", "sécret", "Bearer secret"])
def test_with_key(tree: Tree, monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    """Only the right one will do."""
    monkeypatch.setenv("DELETE_KEY", "secret")
    client = Client(run_example("with_key.py")["application"])
    assert delete(client, headers={"X-Key": given} if given else {}) == 403
    assert tree.path("tinyllama").exists()
    assert delete(client, headers={"X-Key": "secret"}) == 200


def test_guarded(tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token and the host have to be right, and all else reaches the app."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("secret\n")
    client = Client(run_example("guarded.py")["application"])
    headers = {"Authorization": "Bearer secret"}
    assert client.get("/").text == "Hello from the app\n"
    assert delete(client) == 401
    assert delete(client, headers=headers, base_url="http://evil.example") == 403
    assert tree.path("tinyllama").exists()
    assert delete(client, headers=headers) == 200


def test_with_flask_login(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of the app decides: an admin may, another user and a stranger may not."""
    require("flask", "flask_login")
    monkeypatch.setenv("SECRET_KEY", "secret")
    app = run_example("with_flask_login.py")["create_app"]()
    assert app.test_client().get("/").status_code == 200
    for user, status in ((None, 403), ("bob", 403), ("nobody", 403), ("ada", 200)):
        client = app.test_client()
        if user is not None:
            with client.session_transaction() as session:
                session["_user_id"] = user  # what flask_login.login_user() sets
        assert delete(client) == status
        assert tree.path("tinyllama").exists() == (status != 200)


def in_a_django_project(example: str, folder: Path, code: str) -> str:
    """
    Run *code* in a new Python, in a Django project whose ``application`` is that of *example*.

    ``client_of(user)`` gives a client that is logged in, or is nobody's if *user* is None.

    Returns:
        What the code prints.
    """
    require("django")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db")}
    project = f"""\
import runpy
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="secret",
    LOGIN_URL="/login",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib." + app for app in ("auth", "contenttypes", "sessions")],
    DATABASES={{"default": {database}}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
application = runpy.run_path({str(EXAMPLES / example)!r})["application"]
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client as Browser
from werkzeug.test import Client
def client_of(user):
    client = Client(application)
    if user:
        browser = Browser()
        browser.force_login(user)
        client.set_cookie("sessionid", browser.cookies["sessionid"].value)
    return client
"""
    result = python("-c", project + code)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_django_authorize(tree: Tree, tmp_path: Path) -> None:
    """The session of the project decides, and its permissions."""
    code = """\
kind = ContentType.objects.create(app_label="llm", model="model")
permission = Permission.objects.create(codename="delete_model", content_type=kind)
bob, ada, root = (User.objects.create_user(name) for name in ("bob", "ada", "root"))
ada.user_permissions.add(permission)
User.objects.filter(username="root").update(is_superuser=True, is_active=False)
def delete(client):
    return client.delete("/api/delete", json={"model": "tinyllama"}).status_code
print(*(delete(client_of(user)) for user in (None, bob, root, ada, ada)))
client = Client(application)
client.set_cookie("sessionid", "forged")
print(delete(client))
"""
    said = in_a_django_project("django_authorize.py", tmp_path, code)
    assert said == "403 403 403 200 404\n403\n"
    assert not tree.path("tinyllama").exists()


def used_by(user: str | None, client: Client) -> list[int]:
    """What the storage page answers to a user: when shown, to a form of its own and of another."""
    form = {"delete": "tinyllama"}
    shown = client.get("/registry/")
    assert (shown.location == "/login?next=/registry/") == (user is None)
    ours, theirs = ({"Origin": origin} for origin in ("http://localhost", "http://evil.example"))
    answers = [client.post("/registry/do", data=form, headers=by) for by in (theirs, ours)]
    return [answer.status_code for answer in (shown, *answers)]


def test_page_flask_login(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not logged in is sent to the login of the app, and a user who may not is refused."""
    require("flask", "flask_login")
    monkeypatch.setenv("SECRET_KEY", "secret")
    app = run_example("page_flask_login.py")["create_app"]()
    for user, statuses in ((None, [302, 403, 302]), ("bob", [403] * 3), ("ada", [200, 403, 303])):
        client = app.test_client()
        if user is not None:
            with client.session_transaction() as session:
                session["_user_id"] = user
        assert used_by(user, client) == statuses
        assert tree.path("tinyllama").exists() == (user != "ada")


def test_page_django(tree: Tree, tmp_path: Path) -> None:
    """The same with the users of Django."""
    code = """\
bob = User.objects.create_user("bob")
ada = User.objects.create_superuser("ada")
for user in (None, bob, ada):
    client = client_of(user)
    shown = client.get("/registry/")
    deleted = client.post(
        "/registry/do", data={"delete": "tinyllama"}, headers={"Origin": "http://localhost"}
    )
    print(shown.status_code, shown.location, deleted.status_code)
"""
    said = in_a_django_project("page_django.py", tmp_path, code)
    assert said == "302 /login?next=/registry/ 302\n403 None 403\n200 None 303\n"
    assert not tree.path("tinyllama").exists()


def test_django_settings() -> None:
    """Each key is a setting, with a value that it takes."""
    require("django")
    values = run_example("django_settings.py")["REGISTRY_WSGI"]
    settings = Settings.read({}, **{key.lower(): value for key, value in values.items()})
    assert settings.trusted_hosts == ("models.example",)


def test_django_logging(tree: Tree) -> None:
    """One line for a delete, where Django alone would show none."""
    require("django")
    code = f"""\
import runpy
import django
from django.conf import settings
settings.configure(LOGGING=runpy.run_path({str(EXAMPLES / "django_logging.py")!r})["LOGGING"])
django.setup()
from registry_wsgi import LocalRegistry
from werkzeug.test import Client
Client(LocalRegistry()).delete("/api/delete", json={{"model": "tinyllama"}})
"""
    result = python("-c", code)
    assert (result.returncode, result.stderr) == (0, "DELETE /api/delete 200\n")


@pytest.mark.parametrize(
    ("example", "package", "level"),
    [
        ("structlog_logging.py", "structlog", "level"),
        ("json_logging.py", "pythonjsonlogger", "levelname"),
    ],
)
def test_logging_libraries(tree: Tree, example: str, package: str, level: str) -> None:
    """They have the fields of a record as keys, and the traceback of a failure."""
    require(package)
    code = f"""\
import runpy
runpy.run_path({str(EXAMPLES / example)!r})
from registry_wsgi import LocalRegistry
from werkzeug.test import Client
client = Client(LocalRegistry())
for model in ("tinyllama", "absent\\n"):
    client.delete("/api/delete?a=b", json={{"model": model}})
from pathlib import Path
Path({str(tree.root)!r}, "protected").write_bytes(b"")
client.delete("/api/delete", json={{"model": "other"}})
"""
    tree.add("other", b"weights")
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    done, refused, failed = map(json.loads, result.stderr.splitlines())
    fields = {"error": None, "status": 200, "method": "DELETE", "path": "/api/delete"}
    fields |= {"content_length": 22, "remote": None, "proto": "HTTP/1.1", "query": "a=b"}
    fields |= {"model": "registry.ollama.ai/library/tinyllama:latest", "action": "delete"}
    assert {key: done[key] for key in fields} == fields
    assert done.get("message", done.get("event")) == "DELETE /api/delete 200"
    assert [record[level].upper() for record in (done, refused, failed)] == [
        *("INFO", "WARNING", "ERROR")
    ]
    assert (refused["status"], "\n" in refused["error"]) == (400, False)
    assert "protected" in failed["error"]
    assert "Traceback" in (failed.get("exc_info") or failed["exception"])


def test_with_metrics(tree: Tree) -> None:
    """They are served beside what they count."""
    require("prometheus_client")
    code = f"""\
import runpy
application = runpy.run_path({str(EXAMPLES / "with_metrics.py")!r})["application"]
from werkzeug.test import Client
client = Client(application)
client.delete("/api/delete", json={{"model": "tinyllama"}})
print(client.get("/metrics").text)
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert "\nregistry_wsgi_models_deleted_total 1.0\n" in result.stdout


def test_gguf_folder(tmp_path: Path) -> None:
    """A cache is any object with two methods."""
    cache = run_example("gguf_folder.py")["GGUFFolder"](tmp_path)
    client = Client(LocalRegistry(None, cache))
    file = tmp_path / "tinyllama.gguf"
    file.write_bytes(b"weights")
    (tmp_path.parent / "other.gguf").write_bytes(b"")
    assert delete(client, "../other") == 400
    assert delete(client, "tinyllama:7b") == 404
    assert delete(client, "else/tinyllama") == 404
    assert delete(client, "x" * 81) == 400
    assert file.exists()
    assert delete(client, "tinyllama:latest") == 200
    assert not file.exists()
    assert delete(client, "tinyllama") == 404


def test_test_models(tmp_path: Path) -> None:
    """The test module for readers passes."""
    shutil.copy(EXAMPLES / "test_models.py", tmp_path)
    result = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_models.py", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


# The commands of the pages, one after the other as a reader types them


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(
        line,
        check=False,
        shell=True,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


class Reader:
    """Types the commands of a page, in a folder with the examples."""

    _SERVERS = (
        "gunicorn ",
        "waitress-serve ",
        " run --port ",
        " runserver ",
        "registry-wsgi serve ",
        "registry-wsgi demo ",
    )

    def __init__(self, folder: Path, tree: Tree) -> None:
        self.folder = folder
        self.tree = tree
        self.output = folder / "output.txt"
        self._server: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def type(self, line: str) -> str:
        """Type one line; a server is left running, until the next one is started."""
        line = line.replace("8434", str(self.port)).replace(".venv/bin/", "")
        require_command(
            *({*line.split()} & {"curl", "flask", "gunicorn", "registry-wsgi", "waitress-serve"})
        )
        if any(server in f"{line}\n" for server in self._SERVERS):
            self._serve(line)
            return ""
        result = shell(line, self.folder)
        assert result.returncode == 0, (line, result.stderr, self.output.read_text())
        return result.stdout

    def stop(self) -> None:
        """End the server and whatever it has started."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(LIMIT)
            self._server = None

    def _serve(self, line: str) -> None:
        self.stop()
        self.tree.add("tinyllama", b"weights")
        with self.output.open("wb") as output:
            self._server = subprocess.Popen(
                line,
                shell=True,
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + LIMIT
        while not self._answers():
            assert self._server.poll() is None, (line, self.output.read_text())
            assert time.monotonic() < deadline, (line, self.output.read_text())
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status in (200, 404)
        except OSError:
            return False
        finally:
            connection.close()


@pytest.fixture
def reader(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Somebody who reads a page, at a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    # The commands that belong to the Python of the tests.
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    monkeypatch.setenv("PATH", os.pathsep.join(paths))
    folder = tmp_path / "reader"
    shutil.copytree(EXAMPLES, folder)
    # Gunicorn reads that without being told; its page comes to it at the end.
    (folder / "gunicorn.conf.py").unlink()
    reader = Reader(folder, tree)
    yield reader
    reader.stop()


@pytest.mark.live
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, reader: Reader, tree: Tree) -> None:
    """A delete is answered 200, and the model is gone until it is restored."""
    if page.name == "django.rst":
        require("django")
        assert (
            python("-m", "django", "startproject", "mysite", ".", cwd=reader.folder).returncode == 0
        )
        shutil.copy(EXAMPLES / "django_wsgi.py", reader.folder / "mysite" / "wsgi.py")
        with (reader.folder / "mysite" / "settings.py").open("a") as settings_file:
            settings_file.write("INSTALLED_APPS.append('registry_wsgi')\n")
    elif page.name == "flask.rst":
        require("flask")
    typed = 0
    for line in lines(page, "sh"):
        if SETS_UP.match(line):
            continue
        if "--config gunicorn.conf.py" in line:
            settings = (EXAMPLES / "gunicorn.conf.py").read_text()
            settings = settings.replace("8434", str(reader.port))
            (reader.folder / "gunicorn.conf.py").write_text(settings)
        typed += 1
        said = reader.type(line)
        if "curl -i -X DELETE " in line:
            assert re.match(r"HTTP/1\.[01] 200 ", said), said
            assert not tree.path("tinyllama").exists()
        elif "/metrics" in line:
            assert "\nregistry_wsgi_models_deleted_total 1.0\n" in said
        elif "/api/" in line:
            assert "code" not in json.loads(said.splitlines()[-1])
        elif "curl " in line:
            assert said == "Hello from the app\n"
        elif " restore " in line:
            assert tree.path("tinyllama").exists()
    assert typed or page.name not in (
        "index.rst",
        "wsgi.rst",
        "flask.rst",
        "django.rst",
        "gunicorn.rst",
    )
    if page.name == "gunicorn.rst":
        logged = reader.output.read_text().splitlines()
        (record,) = [json.loads(line) for line in logged if '"DELETE ' in line]
        (shown,) = [json.loads(block) for block in blocks(page, "json")]
        assert record.keys() == shown.keys()
        assert {**record, "time": 0} == {**shown, "time": 0}


@pytest.mark.live
def test_the_tutorial_shows_what_happens(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of an answer is in what the command before says, in that order."""
    require("click", "rich")
    monkeypatch.setenv("TMPDIR", str(reader.folder))  # as the demo is killed, its sample stays
    steps = re.split(r"^\$ ", "".join(blocks(DOCS / "tutorial.rst", "console")), flags=re.MULTILINE)
    typed = 0
    for step in steps[1:]:
        command, *shown = step.splitlines()
        if ".venv/bin/activate" in command:
            continue
        if command.startswith("export OLLAMA_MODELS="):
            given = re.search(r"export OLLAMA_MODELS=(\S+)", reader.output.read_text())
            assert given is not None
            monkeypatch.setenv("OLLAMA_MODELS", given[1])
            continue
        typed += 1
        said = reader.type(command) or reader.output.read_text()
        said = said.replace(str(reader.port), "8434").replace(str(reader.folder), "/tmp")
        words = [
            r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
            for line in shown
        ]
        assert re.search(r"(?s:.*?)".join(words), said), (command, said)
    assert typed > 10


@pytest.mark.parametrize("name", ["compose.yaml", "cronjob.yaml"])
def test_the_files_for_containers_are_as_their_programs_take_them(name: str) -> None:
    """YAML, whose commands are those of the command line, and whose volumes are there."""
    require("yaml", "click", "rich")
    found = import_module("yaml").safe_load((EXAMPLES / name).read_text())
    if name == "compose.yaml":
        registry = found["services"]["registry"]
        command = shlex.split(registry["command"])
        (volume,) = registry["volumes"]
        assert volume in found["services"]["ollama"]["volumes"]
        assert volume.partition(":")[0] in found["volumes"]
        assert registry["environment"]["OLLAMA_MODELS"] == f"{volume.partition(':')[2]}/models"
        assert {*registry["secrets"]} == {*found["secrets"]}
    else:
        pod = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        command = container["command"]
        assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    assert command[0] == "registry-wsgi"
    options = set(
        re.findall(r"--[a-z-]+", shell(f"registry-wsgi {command[1]} --help", DOCS).stdout)
    )
    assert {word for word in command if word.startswith("--")} <= options


@pytest.mark.live
def test_the_completion_of_the_command_line_is_set_up(reader: Reader) -> None:
    """By the line on its page, in the shell that it is for."""
    require("click", "rich")
    require_command("bash", "registry-wsgi")
    (line,) = lines(DOCS / "cli.rst", "bash")
    result = shell(shlex.join(["bash", "-c", f"{line}; complete -p registry-wsgi"]), reader.folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("complete ")


def test_the_lines_for_every_night_prune(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """That of systemd, and that of cron, with a directory of the test."""
    require("click", "rich")
    page = DOCS / "cli.rst"
    unit = (EXAMPLES / "registry-wsgi-prune.service").read_text()
    (service,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    (cron,) = [line for line in lines(page, "text") if line.startswith("0 4 * * * ")]
    variable, *command = shlex.split(cron.removeprefix("0 4 * * * ").removesuffix(" > /dev/null"))
    assert variable.startswith("OLLAMA_MODELS=")
    assert command == shlex.split(service)
    assert main(command[1:]) == 0
    assert capsys.readouterr() == ("Removed nothing.\n", "")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Without a complaint, once the command is there."""
    require_command("systemd-analyze")
    for name in UNITS:
        text = (EXAMPLES / name).read_text()
        text = text.replace("/opt/registry-wsgi/bin/registry-wsgi", sys.executable)
        (tmp_path / name).write_text(text)
    units = " ".join(shlex.quote(str(unit)) for unit in sorted(tmp_path.iterdir()))
    result = shell(f"systemd-analyze verify {units}", tmp_path)
    assert (result.returncode, "registry-wsgi-" in result.stderr) == (0, False), result.stderr


def test_a_unit_fails_when_a_blob_is_damaged(tree: Tree) -> None:
    """The monthly one; and it is quiet when all is well."""
    require("click", "rich")
    unit = (EXAMPLES / "registry-wsgi-verify.service").read_text()
    (service,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    assert main(shlex.split(service)[1:]) == 0
    (tree.blobs / blob(b"weights")).write_bytes(b"Weights")
    assert main(shlex.split(service)[1:]) == 1


def test_a_unit_keeps_the_limit(tree: Tree) -> None:
    """It takes the line of the unit; and it fails if what has to stay is above the limit."""
    require("click", "rich")
    tree.add("smol", b"weights")
    unit = (EXAMPLES / "registry-wsgi-evict.service").read_text()
    (service,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    assert main(shlex.split(service)[1:]) == 0
    assert main(shlex.split(service.replace("200GB --room 20GB", "1"))[1:]) == 1
    assert tree.path("smol").exists()


@pytest.mark.live
def test_gunicorn_shows_deletes_once_logging_is_set_up(reader: Reader) -> None:
    """And not before, as its page says."""
    page = DOCS / "gunicorn.rst"
    serve, request = lines(page, "sh")[:2]
    reader.type(serve)
    reader.type(request)
    reader.stop()
    assert "DELETE /api/delete 200" not in reader.output.read_text()
    (block,) = blocks(page, "python")
    (reader.folder / "gunicorn.conf.py").write_text(block)
    reader.type(serve)
    reader.type(request)
    reader.stop()
    assert " INFO DELETE /api/delete 200" in reader.output.read_text()


@pytest.mark.live
def test_gunicorn_says_why_it_does_not_start(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of its page."""
    require_command("gunicorn")
    page = DOCS / "gunicorn.rst"
    (message,) = lines(page, "text")
    monkeypatch.setenv("OLLAMA_MODELS", "/nonexistent")
    serve = lines(page, "sh")[0].replace("8434", str(reader.port))
    result = shell(serve, reader.folder)
    assert result.returncode != 0
    assert f"\n{message.replace('/srv/models', '/nonexistent')}\n" in result.stderr
    assert "Worker failed to boot" in result.stderr


# Troubleshooting: each message that is quoted is provoked


def raised(call: Callable[[], Any]) -> str:
    """The message of the error that a call raises."""
    with pytest.raises(RegistryError) as caught:
        call()
    return str(caught.value)


def answered(app: LocalRegistry, **request: Any) -> str:
    """The message that a client gets."""
    options = {"path": "/api/delete", "method": "DELETE", **request}
    answer = json.loads(Client(app).open(**options).text)
    return str(answer["error"])


class BrokenInput:
    """A connection that is lost."""

    def read(self, size: int = -1) -> bytes:
        raise OSError(errno.ECONNRESET, "reset")


@pytest.fixture
def provoked(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Every message that can be had without another user, file system or shell."""
    require("click", "rich")
    messages: list[str] = []
    model = tree.path("tinyllama")
    cache = ModelCache(DiskStore(tree.root), retention=0)
    app = LocalRegistry(None, cache)

    def setting(variable: str, value: str, call: Callable[[], Any] = open_cache) -> None:
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            messages.append(raised(call))

    setting("OLLAMA_MODELS", f"{tree.root}/blobs/none")
    messages[-1] = messages[-1].replace("/blobs/none", "")
    for place in (tree.root.parent, tree.blobs):
        setting("OLLAMA_MODELS", str(place), lambda: open_cache().models())
    messages[-2] = messages[-2].replace(f"{tree.root.parent}: ", "/srv: ")
    setting("OLLAMA_MODELS", f"{tree.root}/blobs")
    setting("OLLAMA_MODELS", str(tree.root.parent))
    messages[-1] = messages[-1].replace(f": {tree.root.parent}: ", ": /srv: ")
    setting("OLLAMA_MODELS", "s4://models")
    setting("REGISTRY_WSGI_RETENTION", "7")
    setting("REGISTRY_WSGI_PRUNE", "maybe", Settings.read)

    def command(code: int, *argv: str) -> str:
        assert main(argv) == code
        return capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        messages.append(command(1, "demo", "--port", str(port)).replace(str(port), "8434"))
    messages.append(command(2, "serve", "--host", "0.0.0.0"))
    messages.append(command(2, "rm", "*"))
    messages.append(command(1, "rm", "tinylama"))
    for package, name in (("rich", "list"), ("gunicorn.app.base", "serve")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            patch.delitem(sys.modules, "registry_wsgi.cli.server", raising=False)
            messages.append(command(1, name))

    wrong = ("", "{", "'{}'", '"tinyllama"', '{"model": 1}', '{"model": "tiny llama"}')
    messages += [answered(app, data=body) for body in wrong]
    for key, value in (("wsgi.input_terminated", True), ("wsgi.input", BrokenInput())):
        environ = {"CONTENT_LENGTH": "3", key: value}
        messages.append(answered(app, data="{}", environ_overrides=environ))
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    messages.append(answered(app, environ_overrides=chunked))
    messages.append(answered(app, data="x" * 70_000))
    forbidden = LocalRegistry(None, cache, authorize=lambda *_: False)
    messages.append(answered(forbidden, data='{"model": "tinyllama"}'))
    for check in (bearer_token("secret"), trusted_hosts("models.example")):
        guarded = LocalRegistry(None, cache, authorize=check)
        messages.append(answered(guarded, data='{"model": "tinyllama"}'))
    cache.protect("tiny*")
    messages.append(answered(app, data='{"model": "tinyllama"}'))
    cache.unprotect("tiny*")
    maintained = LocalRegistry(None, cache, maintenance=True)
    foreign = {"Origin": "http://elsewhere.example"}
    messages.append(answered(maintained, method="POST", path="/api/prune", headers=foreign))
    release = cache.store.claim()
    assert release is not None
    messages.append(answered(maintained, method="POST", path="/api/prune"))
    release()
    messages.append(answered(app, data='{"model": "absent"}'))
    messages.append(answered(app, path="/"))
    messages.append(answered(app, method="POST"))

    # As the system says it to another user, or on another file system.
    def fail(number: int, *names: str) -> None:
        def step(path: str, *arguments: Any, **options: Any) -> None:
            path = str(tree.trash) if "mkdir" in names else path
            raise OSError(number, os.strerror(number), path)

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, step)
            messages.append(raised(lambda: cache.unlink("tinyllama")))

    for number in (errno.EACCES, errno.EROFS):
        fail(number, "mkdir", "rename")  # without a directory, the manifest alone would be moved
    fail(errno.EACCES, "rename")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", None)
        messages.append(answered(app, data='{"model": "tinyllama"}'))

    def elsewhere(folder: Path, call: Callable[[], Any]) -> None:
        """With a folder of the store behind a symbolic link."""
        moved = tree.root.parent / "elsewhere"
        folder.mkdir(exist_ok=True)
        folder.rename(moved)
        folder.symlink_to(moved)
        messages.append(raised(call))
        folder.unlink()
        moved.rename(folder)

    elsewhere(tree.manifests, lambda: cache.unlink("tinyllama"))
    elsewhere(tree.trash, lambda: cache.unlink("tinyllama"))

    messages.append(raised(lambda: cache.restore("tinyllama")))
    assert cache.unlink("tinyllama")
    elsewhere(tree.blobs, lambda: cache.prune(deleted_only=True))
    tree.write("tinyllama", b"")
    messages.append(raised(lambda: cache.prune(deleted_only=True)))
    tree.add("tinyllama", b"weights")
    messages.append(raised(lambda: cache.restore("tinyllama")))
    (tree.root / "manifests-v2").mkdir()
    (tree.root / "manifests-v2" / "x").touch()
    messages.append(raised(lambda: cache.prune(deleted_only=True)))
    shutil.rmtree(tree.root / "manifests-v2")
    shutil.rmtree(tree.manifests)
    messages.append(raised(lambda: cache.prune(deleted_only=True)))
    for path in tree.root.rglob("sha256-*"):
        if path.read_bytes() == b"weights":
            path.unlink()
    messages.append(re.sub("sha256:.*", "sha256:0f6c…", raised(lambda: cache.restore("tinyllama"))))
    assert not model.exists()
    return [message.replace(str(tree.root), "/srv/models").strip() for message in messages]


def test_troubleshooting_quotes_what_is_said(provoked: list[str]) -> None:
    """Word for word, and everything that it quotes is said somewhere."""
    quoted = lines(DOCS / "troubleshooting.rst", "text")
    assert len(set(quoted)) > 30
    quoted.remove("syntax error near unexpected token `('")  # the shell says that
    assert sorted(set(quoted)) == sorted(set(provoked))
