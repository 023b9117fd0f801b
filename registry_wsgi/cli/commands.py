"""
The command line: the calls of the cache, for an operator, a timer and scripts.

Results go to stdout; errors (one line), questions and progress go to stderr. What is only needed by
some commands is imported there, so that ``--help`` and the completion of names are quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import io
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cache.patterns import is_pattern, matches, normalize
from ..durations import to_seconds
from ..errors import (
    ConfigurationError,
    InvalidDurationError,
    InvalidNameError,
    ModelNotFoundError,
    ModelProtectedError,
    RegistryError,
    escape,
    quote,
)
from ..names import Name
from ..settings import CacheSettings, Settings
from .terminal import (
    LISTED,
    counted,
    delete_outcome,
    echo_json,
    echo_names,
    echo_pruned,
    echo_table,
    echo_verified,
    format_size,
    format_time,
    one_line,
    restorable_until,
    show_log,
    show_progress,
    system_error,
)

if TYPE_CHECKING:
    from ..cache.collector import PruneReport
    from ..cache.model_cache import ModelCache

__all__ = ["cli", "main"]

_log = logging.getLogger("registry_wsgi")

_PROGRAM = "registry-wsgi"


def main(argv: Sequence[str] | None = None, program: str = _PROGRAM) -> int:
    """
    Run the command line.

    Args:
        argv: Its arguments; None: those of the process.
        program: What the user typed before them.

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold any bytes
    code = _run(argv, program)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if code == 0:
            code = _fail(system_error(error))
        # What is not written yet would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(argv: Sequence[str] | None, program: str) -> int:
    try:
        code = cli.main(argv, prog_name=program, standalone_mode=False)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click turns Ctrl-C into its own exception.
        interrupted = isinstance(error, KeyboardInterrupt) or isinstance(
            error.__context__, KeyboardInterrupt
        )
        return 130 if interrupted else 1
    except click.ClickException as error:
        message = error.format_message()
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message = f"{message.rstrip('.')}; see {error.ctx.command_path} --help"
        return _fail(message, error.exit_code)
    except OSError as error:  # of --help itself
        return 1 if error.errno == errno.EPIPE else _fail(system_error(error))
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int = 1) -> int:
    with suppress(OSError):  # the exit code is still to be had
        click.echo(f"{_PROGRAM}: {one_line(message)}", err=True)
    return code


class _Group(click.Group):
    """The one place where what the library raises becomes an error of the command line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InvalidNameError, InvalidDurationError) as error:
            raise click.UsageError(str(error)) from error
        except RegistryError as error:
            raise click.ClickException(one_line(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has had enough: no error to speak of
                raise click.exceptions.Exit(1) from error
            raise click.ClickException(one_line(system_error(error))) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of use."""
        del ctx
        return list(self.commands)


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """What the options of the group say."""

    models: str | None
    color: bool

    def cache(self) -> ModelCache:
        """Open the store."""
        from ..cache.opening import open_cache  # noqa: PLC0415

        try:
            return open_cache(self.models)
        except ConfigurationError as error:
            message = str(error)
            if not message.startswith("location: "):  # the environment is at fault
                raise
            message = one_line(message[10:])
            raise click.BadParameter(message, param_hint="'--models'") from error

    def undo(self, context: click.Context, arguments: Iterable[str]) -> str:
        """Write the command line that restores, for a shell."""
        program = context.parent.command_path if context.parent else _PROGRAM
        if program == _PROGRAM and not _is_on_path():
            program = f"{shlex.quote(sys.executable)} -m registry_wsgi"
        location = self.models or CacheSettings.read().location
        options = ["--models", location] if location != CacheSettings().location else []
        return one_line(f"{program} {shlex.join([*options, 'restore', *arguments])}")


def _complete(look: Callable[[ModelCache], Iterable[str]]) -> Callable[..., list[str]]:
    """Complete a name by those that *look* finds."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        del parameter
        from ..cache.opening import open_cache  # noqa: PLC0415

        given = context.parent.params.get("models") if context.parent else None
        try:
            names = list(look(open_cache(given)))
        except (RegistryError, OSError):
            return []
        return [name for name in names if name.lower().startswith(typed.lower())]

    return complete


def _short_names(models: Iterable[Any]) -> list[str]:
    return [Name.parse(model.name).short for model in models]


_complete_models = _complete(lambda cache: _short_names(cache.models()))
_complete_deleted = _complete(lambda cache: _short_names(cache.deleted()))
_complete_protected = _complete(lambda cache: cache.protected())

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: sizes in bytes, times in ISO form."
)
_yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_reverse_option = click.option("--reverse", "-r", is_flag=True, help="The other way round.")


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    epilog="Exit codes: 0 all is well, 1 failure, 2 wrong usage, 130 Ctrl-C.",
)
@click.option(
    "--models",
    metavar="PATH_OR_URL",
    help="Where the models are; default: $OLLAMA_MODELS, else ~/.ollama/models.",
)
@click.option("--verbose", "-v", is_flag=True, help="Say what is being done.")
@click.option("--no-color", is_flag=True, help="No colors; so does the variable NO_COLOR.")
@click.version_option(package_name=_PROGRAM)
@click.pass_context
def cli(context: click.Context, models: str | None, *, verbose: bool, no_color: bool) -> None:
    """Delete local models with a way back, and free the space that nothing needs."""
    if find_spec("rich") is None:  # Flask brings click along, and not rich
        raise click.ClickException(_missing("cli"))
    context.obj = _Options(models, not no_color)
    level = logging.INFO if verbose or context.invoked_subcommand in _SERVERS else logging.WARNING
    timed = context.invoked_subcommand in _SERVERS
    show_log(context, level, "%(asctime)s %(levelname)s" if timed else f"{_PROGRAM}:")


# Looking


@cli.command("list")
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "shared", "modified"]),
    default="name",
    show_default=True,
    help="Sizes: the largest first; times: the latest first.",
)
@_reverse_option
@_json_option
@click.pass_obj
def list_models(options: _Options, sort: str, *, reverse: bool, as_json: bool) -> None:
    """
    List the models.

    SHARED is how much of the SIZE other models use too, so that deleting the model does not free
    it. PROTECTED are those that are not to be deleted, if there are any.
    """
    models = options.cache().models()
    models.sort(key=lambda model: getattr(model, sort), reverse=(sort != "name") != reverse)
    if as_json:
        echo_json(models)
        return
    headings = ["NAME", "SIZE", "SHARED", "MODIFIED"]
    if any(model.protected for model in models):
        headings.append("PROTECTED")
    rows = [
        (
            Name.parse(model.name).short,
            format_size(model.size),
            format_size(model.shared),
            format_time(model.modified),
            "yes" if model.protected else "",
        )[: len(headings)]
        for model in models
    ]
    echo_table(options.color, headings, rows, "no models")


@cli.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete_models
)
@_yes_option
@click.pass_context
def rm(context: click.Context, names: tuple[str, ...], *, yes: bool) -> None:
    """
    Delete models, with a way back.

    They can be restored for as long as the retention lasts. A NAME may be a pattern, in quotes:
    'llama*'. With a pattern or several names it asks before it deletes.
    """
    options: _Options = context.obj
    asks = (len(names) > 1 or _is_pattern(names[0])) and _asks(yes)
    cache = options.cache()
    found = _find(cache, names)
    for name in found:  # all or none
        pattern = cache.protected_by(str(name))
        if pattern is not None:
            raise ModelProtectedError(name.short, pattern)
    usage = cache.usage(map(str, found))
    outcome = delete_outcome(cache, usage)
    if asks:
        echo_names(f"This deletes {counted(len(found), 'model')}:", found, err=True)
        click.echo(outcome, err=True)
        _confirm("Delete?")
    deleted: list[Name] = []
    begun = datetime.now(UTC)
    try:
        for name in found:
            if not cache.unlink(str(name)):
                raise ModelNotFoundError(f"{name}: it has just been deleted by another")
            deleted.append(name)
    finally:
        # What went before a failure can be undone too.
        if deleted:
            heading = f"Deleted {counted(len(deleted), 'model')}"
            if asks:  # and so has shown the rest
                click.echo(heading)
            else:
                echo_names(f"{heading}:", deleted)
            if len(deleted) == len(found) and not asks:
                click.echo(outcome)
            undo = [name.short for name in deleted]
            if len(undo) > LISTED:
                undo = ["--since", begun.isoformat(), "*"]
            click.echo(f"Undo: {options.undo(context, undo)}")


@cli.command()
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "deleted", "expires"]),
    default="deleted",
    show_default=True,
    help="Sizes: the largest first; deleted: the latest first; expires: the next first.",
)
@_reverse_option
@_json_option
@click.pass_obj
def deleted(options: _Options, sort: str, *, reverse: bool, as_json: bool) -> None:
    """List what was deleted, and until when it can be restored."""
    models = options.cache().deleted()
    descending = sort in ("size", "deleted")
    models.sort(key=lambda model: getattr(model, sort), reverse=descending != reverse)
    if as_json:
        echo_json(models)
        return
    rows = [
        (
            Name.parse(model.name).short,
            format_size(model.size),
            format_time(model.deleted),
            restorable_until(model),
        )
        for model in models
    ]
    echo_table(
        options.color, ["NAME", "SIZE", "DELETED", "RESTORABLE UNTIL"], rows, "nothing deleted"
    )
    for model in models:
        if model.missing:
            click.echo(f"{Name.parse(model.name).short} lacks {', '.join(model.missing)}")


@cli.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete_deleted
)
@click.option(
    "--since",
    metavar="TIME",
    callback=lambda *given: _parse_time(given[2]),
    help="Of those that match a pattern, only what was deleted since, as 2026-01-31 or"
    " '2026-01-31 12:00'.",
)
@click.pass_obj
def restore(options: _Options, names: tuple[str, ...], since: datetime | None) -> None:
    """
    Bring deleted models back.

    A NAME may be a pattern, in quotes: 'llama*'. Of several deletes of one name, it takes the
    latest. A model in place is never overwritten.
    """
    cache = options.cache()
    wanted: dict[Name, None] = {}
    for name in names:
        if _is_pattern(name):
            gone = [model for model in cache.deleted() if not since or model.deleted >= since]
            wanted.update(dict.fromkeys(_matches(gone, name)))
        else:
            wanted[Name.parse(name)] = None
    failures: list[RegistryError] = []
    for parsed in wanted:
        try:
            click.echo(f"Restored {Name.parse(cache.restore(str(parsed))).short}")
        except ModelNotFoundError as error:
            failures.append(_unknown(str(error), parsed, cache.deleted()))
        except RegistryError as error:
            failures.append(error)  # the others do not depend on it
    for failure in failures[:-1]:
        _fail(str(failure))
    if failures:
        raise failures[-1]


# Protecting


@cli.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=_complete_models)
@click.pass_obj
def protect(options: _Options, names: tuple[str, ...]) -> None:
    """
    Let models not be deleted, until they are unprotected.

    A NAME may be a pattern, in quotes: 'llama*'. It counts for models that come later, too.
    Without a NAME, this lists what is protected.
    """
    cache = options.cache()
    for name in dict.fromkeys(map(normalize, names)):  # all are checked before the first is kept
        pattern = cache.protect(name)
        models = [Name.parse(model.name) for model in cache.models()]
        count = sum(matches(model, pattern) for model in models)
        click.echo(f"Protected {pattern} ({counted(count, 'model')} now)")
    if not names:
        for pattern in cache.protected():
            click.echo(escape(pattern))


@cli.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete_protected
)
@click.pass_obj
def unprotect(options: _Options, names: tuple[str, ...]) -> None:
    """
    Let models be deleted again.

    Each NAME is one that was protected, or the very pattern.
    """
    cache = options.cache()
    patterns = list(dict.fromkeys(map(normalize, names)))
    kept = cache.protected()
    for pattern in patterns:  # all or none
        if pattern not in kept:
            other = None if is_pattern(pattern) else cache.protected_by(pattern)
            by = f" by this name, but by {quote(other)}" if other else ""
            raise ModelNotFoundError(f"{pattern}: is not protected{by}")
    for pattern in patterns:
        cache.unprotect(pattern)
        click.echo(f"Unprotected {pattern}")


# Cleaning up


@cli.command()
@click.option(
    "--age",
    metavar="DURATION",
    callback=lambda *given: _checked_age(given[2]),
    help="How long ago, as 0, 90s, 15m, 12h, 7d or 2w; default: the retention. 0: at once, which"
    " takes even the blobs of a pull under way.",
)
@click.option("--all", "every", is_flag=True, help="Also models older than the age.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would go.")
@_yes_option
@_json_option
@click.pass_obj
def prune(
    options: _Options, age: str | None, *, every: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """
    Remove for good what is no longer needed.

    \b
    prune                  what was deleted or is needed by nothing for longer than the retention
    prune --age 7d         the same, with this age
    prune --age 0          all that is deleted or needed by nothing, now
    prune --age 7d --all   also models that are older than 7 days
    prune --age 0 --all    everything

    A blob stays for as long as any model that stays uses it. With --all it asks first.
    """
    asks = every and not dry_run and _asks(yes)
    cache = options.cache()

    def run(*, dry_run: bool) -> PruneReport:
        with show_progress(options.color) as progress:
            return cache.prune(age=age, all=every, dry_run=dry_run, progress=progress)

    if asks:
        echo_pruned(options.color, run(dry_run=True), stderr=True)
        _confirm("Remove for good?")
    report = run(dry_run=dry_run)
    if as_json:
        echo_json(report)
    else:
        echo_pruned(options.color, report)


@cli.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=_complete_models)
@click.option("--deep", is_flag=True, help="Read every blob, and compare its content.")
@click.option("--repair", is_flag=True, help="Put back what the trash or a prune still has.")
@click.option(
    "--threads", metavar="N", type=click.IntRange(1, 256), help="How many blobs to read at once."
)
@_json_option
@click.pass_context
def verify(
    context: click.Context,
    names: tuple[str, ...],
    *,
    deep: bool,
    repair: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """
    Check that models are whole.

    Those of the names or patterns, or all. Each blob must be there in its size; --deep reads them,
    too. The exit code is 1 if something is wrong.
    """
    options: _Options = context.obj
    cache = options.cache()
    wanted = [str(name) for name in _find(cache, names)] if names else None
    with show_progress(options.color) as progress:
        report = cache.verify(wanted, deep=deep, repair=repair, threads=threads, progress=progress)
    if as_json:
        echo_json({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        echo_verified(report, deep=deep, repair=repair)
    context.exit(0 if report.ok else 1)


# Serving

_SERVERS = ("serve", "demo")
_port_option = click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65_535),
    default=8434,
    show_default=True,
    help="0: any that is free.",
)


@cli.command()
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
@click.pass_obj
def serve(
    options: _Options,
    *,
    host: str,
    port: int,
    app: str | None,
    workers: int,
    threads: int,
    token_file: Path | None,
    hosts: tuple[str, ...],
) -> None:
    """
    Answer DELETE /api/delete, before an app or alone.

    Without a token anyone who reaches the port can delete, so then only addresses of this machine
    are served, under no name but its own. Clients send it as "Authorization: Bearer TOKEN".
    """
    from ..app import authorization  # noqa: PLC0415

    given: dict[str, Any] = {"location": options.models} if options.models else {}
    if token_file:
        given |= {"token_file": token_file, "tokens": ()}
    if hosts:
        given |= {"trusted_hosts": hosts}
    settings = Settings.read(**given)
    if not (settings.tokens or settings.token_file):
        if not _is_loopback(host):
            raise click.UsageError(
                f"anyone who reaches {quote(host)} could delete: give --token-file, or set"
                " REGISTRY_WSGI_TOKEN"
            )
        if not settings.trusted_hosts:
            here = f"[{host}]" if ":" in host else host
            local = ("localhost", "127.0.0.1", "[::1]", here)
            settings = dataclasses.replace(settings, trusted_hosts=local)
    authorization(settings)  # a mistake in it is said here, and not by each worker
    try:
        from .serving import Server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "gunicorn":
            raise
        raise click.ClickException(_missing("serve")) from error
    if app is not None:
        _check_app(app)
    options.cache()
    Server(
        settings,
        _listen(host, port),
        app=app,
        options={"workers": workers, "threads": threads, "worker_class": "gthread"},
    ).run()


@cli.command()
@_port_option
@click.pass_context
def demo(context: click.Context, port: int) -> None:
    """
    Serve a small sample, and say what to type.

    It needs neither models nor gunicorn, and is removed at the end.
    """
    from werkzeug.serving import make_server  # noqa: PLC0415

    from ..app import build_app  # noqa: PLC0415
    from ..cache.opening import cache_from  # noqa: PLC0415
    from .sample import make_sample  # noqa: PLC0415

    with (
        _listen("127.0.0.1", port) as listener,
        tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as root,
    ):
        make_sample(root)
        # Whoever tries it has neither a token nor a host of their own at hand.
        settings = Settings.read(
            location=root, maintenance=False, tokens=(), token_file=None, trusted_hosts=()
        )
        cache = cache_from(settings)
        app = build_app(settings, cache=cache)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # app logs each request itself
        with make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno()) as server:
            _echo_demo(context, cache, root, f"http://127.0.0.1:{server.port}")
            server.serve_forever()


def _echo_demo(context: click.Context, cache: ModelCache, root: str, url: str) -> None:
    models = cache.models()
    click.echo(f"A sample of {len(models)} models, in {escape(root)}:")
    for model in models:
        click.echo(f"  {Name.parse(model.name).short:<20} {format_size(model.size):>7}")
    name = Name.parse(models[0].name).short
    body = shlex.quote(json.dumps({"model": name}))
    click.echo("Delete one, in another terminal:")
    click.echo(f"  curl -i -X DELETE {url}/api/delete -d {body}")
    click.echo("and bring it back:")
    click.echo(f"  {_Options(root, color=False).undo(context, [name])}")
    click.echo(f"Serving {url} until Ctrl-C, which removes the sample.")


def _check_app(app: str) -> None:
    """Say at once, and in one line, what each worker would say with a traceback."""
    sys.path.insert(0, os.getcwd())  # as gunicorn's own command does
    module, _, name = app.partition(":")
    package = module.partition(".")[0]
    if not (package and name):
        raise click.BadParameter(f"{quote(app)} is not MODULE:CALLABLE", param_hint="'--app'")
    if package not in sys.modules and find_spec(package) is None:
        raise click.BadParameter(f"there is no module {quote(package)}", param_hint="'--app'")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # As many as gunicorn would let wait.
        return socket.create_server((host, port), family=family, backlog=2_048)
    except (OSError, UnicodeError) as error:
        # What create_server() says is long.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise click.ClickException(f"{host} port {port}: {reason}") from error


def _is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine can reach *host*; a name that is not known can be."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# Names


def _find(cache: ModelCache, wanted: Sequence[str]) -> list[Name]:
    """Look up names and patterns, all before the first is acted on."""
    found: dict[Name, None] = {}
    for name in wanted:
        if _is_pattern(name):
            matches = _matches(cache.models(), name)
        else:
            parsed = Name.parse(name)
            # Also finds a model that cannot be listed, as its manifest is damaged.
            key = cache.store.find(parsed)
            if key is None:
                message = f"{parsed.short}: there is no model of this name"
                raise _unknown(message, parsed, cache.models())
            matches = [Name.from_key(key)]
        found.update(dict.fromkeys(matches))
    return list(found)


def _matches(models: Iterable[Any], pattern: str) -> list[Name]:
    names = [Name.parse(model.name) for model in models]
    found = [name for name in names if fnmatchcase(name.short.lower(), pattern.lower())]
    if not found:
        raise ModelNotFoundError(f"{quote(pattern)}: nothing matches")
    return found


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")  # which no name can have


def _unknown(message: str, name: Name, models: Iterable[Any]) -> ModelNotFoundError:
    """Name those of *models* that are most like *name*."""
    nearest = difflib.get_close_matches(name.short, dict.fromkeys(_short_names(models)))
    return ModelNotFoundError(message + (f"; is it {' or '.join(nearest)}?" if nearest else ""))


# Questions


def _asks(yes: bool) -> bool:
    """Tell whether to ask; without a terminal to ask on, the user has to say so beforehand."""
    if yes:
        return False
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise click.UsageError("there is no terminal to ask on: give --yes to go on without")
    return True


def _confirm(question: str) -> None:
    if not click.confirm(question, err=True):
        raise click.ClickException("nothing was changed")


def _missing(extra: str) -> str:
    return f"this needs packages that are not installed: pip install 'registry-wsgi[{extra}]'"


def _checked_age(text: str | None) -> str | None:
    try:
        to_seconds(text or "0")
    except InvalidDurationError as error:
        raise click.BadParameter(str(error)) from error
    return text


def _parse_time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone()
    except (OverflowError, ValueError) as error:
        raise click.BadParameter(f"{quote(text or '')} is not a time") from error


def _is_on_path() -> bool:
    """Tell whether the shell would run this very installation."""
    command = shutil.which(_PROGRAM)
    here = os.path.dirname(sys.executable)
    return command is not None and os.path.dirname(os.path.realpath(command)) == here
