"""The commands that serve: serve, demo."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shlex
import socket
import sys
import tempfile
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..durations import to_seconds
from ..errors import escape, quote
from ..settings import Settings
from .options import Options, checked, missing_extra
from .terminal import PROGRAM, format_size, short_name

if TYPE_CHECKING:
    from ..cache.model_cache import ModelCache

__all__ = ["demo", "serve"]

_port_option = click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65_535),
    default=8434,
    show_default=True,
    help="0: any that is free.",
)


@click.command()
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen."
)
@_port_option
@click.option("--app", metavar="MODULE:CALLABLE", help="The WSGI app to wrap; default: none.")
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Threads of each.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who may delete: a file with one token a line. Else REGISTRY_WSGI_TOKEN_FILE is that"
    " file, or REGISTRY_WSGI_TOKEN the token.",
)
@click.option(
    "--trusted-host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="A name by which clients may ask for this server; can be repeated. Else"
    " REGISTRY_WSGI_TRUSTED_HOSTS has them; default: with a token any, without one localhost.",
)
@click.option(
    "--origin",
    "origins",
    metavar="ORIGIN",
    multiple=True,
    help="An origin, https://chat.example say, whose pages may ask through a browser; can be"
    " repeated. Else REGISTRY_WSGI_ORIGINS has them; default: none.",
)
@click.option(
    "--prune-every",
    metavar="DURATION",
    callback=checked(to_seconds),
    help="Prune in the background, so long after the last time: 1d, say. Else"
    " REGISTRY_WSGI_PRUNE_EVERY says it; default: never.",
)
@click.option(
    "--page",
    metavar="[PATH]",
    is_flag=False,
    flag_value="/registry/",
    help="Serve the storage page, too: under /registry/, or this path. Else REGISTRY_WSGI_PAGE has"
    " the path; default: no page.",
)
@click.pass_obj
def serve(
    options: Options,
    *,
    host: str,
    port: int,
    app: str | None,
    workers: int,
    threads: int,
    token_file: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    prune_every: str | None,
    page: str | None,
) -> None:
    """
    Answer DELETE /api/delete, before an app or alone.

    Without a token anyone who reaches the port can delete, so then only addresses of this machine
    are served, under no name but its own. Clients send it as "Authorization: Bearer TOKEN".
    """
    given = {"page": page, "prune_every": prune_every}
    given = {field: value for field, value in given.items() if value}
    settings = _settings(options, host, token_file, hosts, origins, **given)
    try:
        from .server import Server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "gunicorn":
            raise
        raise click.ClickException(missing_extra("serve")) from error
    _check(options, settings, app)
    Server(
        settings,
        _listen(host, port),
        app=app,
        options={"workers": workers, "threads": threads, "worker_class": "gthread"},
    ).run()


def _settings(
    options: Options,
    host: str,
    token_file: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    **given: Any,
) -> Settings:
    """Take the settings from the options and the environment; refuse to let anyone delete."""
    if token_file:
        given |= {"token_file": token_file, "tokens": ()}
    if hosts:
        given |= {"trusted_hosts": hosts}
    if origins:
        given |= {"origins": origins}
    settings = options.settings(Settings, **given)
    if settings.tokens or settings.token_file:
        return settings
    if not _is_loopback(host):
        raise click.UsageError(
            f"anyone who reaches {quote(host)} could delete: give --token-file, or set"
            " REGISTRY_WSGI_TOKEN"
        )
    if settings.trusted_hosts:
        return settings
    here = f"[{host}]" if ":" in host else host
    return dataclasses.replace(settings, trusted_hosts=("localhost", "127.0.0.1", "[::1]", here))


def _check(options: Options, settings: Settings, app: str | None) -> None:
    """Raise now, for one line on stderr, what would be a traceback in each worker."""
    from ..app import check_settings  # noqa: PLC0415
    from ..cache.opening import cache_from  # noqa: PLC0415

    check_settings(settings)
    with options.blamed():
        cache_from(settings)
    if app is None:
        return
    sys.path.insert(0, os.getcwd())  # as gunicorn's own command does
    module, _, name = app.partition(":")
    package = module.partition(".")[0]
    if not (package and name):
        raise click.BadParameter(f"{quote(app)} is not MODULE:CALLABLE", param_hint="'--app'")
    if package not in sys.modules and find_spec(package) is None:
        raise click.BadParameter(f"there is no module {quote(package)}", param_hint="'--app'")


@click.command()
@_port_option
@click.pass_context
def demo(context: click.Context, port: int) -> None:
    """
    Serve a small sample, and say what to type.

    It needs neither models of yours nor gunicorn. The sample is removed at the end.
    """
    from werkzeug.serving import make_server  # noqa: PLC0415

    from ..app import build_app  # noqa: PLC0415
    from ..cache.opening import cache_from  # noqa: PLC0415
    from .sample import make_sample  # noqa: PLC0415

    with (
        _listen("127.0.0.1", port) as listener,
        tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as root,
    ):
        make_sample(root)
        # The lines that are printed have no token, and work under any name of this machine.
        settings = Settings.read(
            location=root,
            maintenance=False,
            tokens=(),
            token_file=None,
            trusted_hosts=(),
            origins=(),
            page="/registry/",
        )
        cache = cache_from(settings)
        app = build_app(settings, cache=cache)
        # The middleware logs each request already.
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        with make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno()) as server:
            _echo_demo(context, cache, root, f"http://127.0.0.1:{server.port}")
            server.serve_forever()


def _echo_demo(context: click.Context, cache: ModelCache, root: str, url: str) -> None:
    models = cache.models()
    click.echo(f"A sample of {len(models)} models, in {escape(root)}:")
    for model in models:
        click.echo(f"  {short_name(model.name):<20} {format_size(model.size):>7}")
    name = short_name(models[0].name)
    body = shlex.quote(json.dumps({"model": name}))
    click.echo("Look at it in a browser:")
    click.echo(f"  {url}/registry/")
    click.echo("Delete one, in another terminal:")
    click.echo(f"  curl -i -X DELETE {url}/api/delete -d {body}")
    click.echo("and bring it back:")
    click.echo(f"  {Options(root).undo(context, [name])}")
    click.echo("All other commands work on the sample after:")
    click.echo(f"  export OLLAMA_MODELS={shlex.quote(root)}")
    click.echo(f"Serving {url} until Ctrl-C, which removes the sample.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # The backlog that gunicorn would set.
        return socket.create_server((host, port), family=family, backlog=2_048)
    except (OSError, UnicodeError) as error:
        # create_server() adds the address to the reason: "… (while attempting to bind on …)".
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise click.ClickException(f"{host} port {port}: {reason}") from error


def _is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address *host*; other names may be reachable."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
