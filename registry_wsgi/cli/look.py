"""The commands that look, and change nothing unless asked to repair."""

from __future__ import annotations

import dataclasses
import math
import time
from operator import attrgetter

import click
from click.shell_completion import get_completion_class

from ..durations import to_seconds
from ..errors import escape
from ..figures import format_day
from ..sizes import to_bytes
from .options import Options, checked, json_option, reverse_option
from .targets import complete_models, named_in, resolve
from .terminal import (
    LISTED,
    PROGRAM,
    by_whom,
    counted,
    echo_json,
    echo_table,
    echo_verified,
    format_size,
    format_time,
    restorable_until,
    short_name,
    short_names,
    show_progress,
)

__all__ = ["completion", "deleted", "history", "list_models", "verify"]


@click.command("list")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_models)
@click.option("--quiet", "-q", is_flag=True, help="Only the names, one a line.")
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "shared", "frees", "arrived", "modified", "read"]),
    default="name",
    show_default=True,
    help="Sizes: the largest first; times: the latest first.",
)
@reverse_option
@click.option(
    "--larger", metavar="SIZE", callback=checked(to_bytes), help="Only those of more: 10GB, say."
)
@click.option(
    "--older",
    metavar="DURATION",
    callback=checked(to_seconds),
    help="Only those that arrived longer ago: 30d, say.",
)
@json_option
@click.pass_obj
def list_models(
    options: Options,
    names: tuple[str, ...],
    sort: str,
    larger: str | None,
    older: str | None,
    *,
    quiet: bool,
    reverse: bool,
    as_json: bool,
) -> None:
    """
    List the models, or those of the names or patterns.

    ID is that of "ollama list". SHARED is how much of the SIZE other models use too; FREES is the
    rest, which comes free if this model alone is deleted and pruned. ARRIVED is when the manifest
    was written. LAST READ is when the file system says that the largest blob was read, which may be
    a day behind; "-" where nobody can tell. PROTECTED are those that are not to be deleted, if
    there are any. A narrow terminal goes without SHARED, ID and ARRIVED, in this order.
    """
    cache = options.cache()
    wanted = set(resolve(cache, names)) if names else None
    least = -1 if larger is None else to_bytes(larger)
    latest = math.inf if older is None else time.time() - to_seconds(older)
    models = [
        model
        for model in cache.models()
        if (wanted is None or model.name in wanted)
        and (model.size > least and model.modified.timestamp() < latest)
    ]
    attribute = "modified" if sort == "arrived" else sort
    known = attrgetter(attribute)
    models.sort(
        key=lambda model: (known(model) is not None, known(model) or 0),
        reverse=(sort != "name") != reverse,
    )
    if as_json:
        echo_json(models)
        return
    if quiet:
        for model in models:
            click.echo(short_name(model.name))
        return
    headings = ["NAME", "ID", "SIZE", "SHARED", "FREES", "ARRIVED", "LAST READ"]
    if any(model.protected for model in models):
        headings.append("PROTECTED")
    rows = [
        (
            short_name(model.name),
            model.digest[7:19],
            format_size(model.size),
            format_size(model.shared),
            format_size(model.frees),
            format_time(model.modified),
            format_day(model.read) if model.read else "-",  # nobody knows the hour
            "yes" if model.protected else "",
        )[: len(headings)]
        for model in models
    ]

    def sums() -> str:
        usage = cache.usage(model.name for model in models)
        return (
            f"{counted(len(models), 'model')}, {format_size(usage.size)} together;"
            f" deleting all of them frees {format_size(usage.size - usage.shared)}"
        )

    spare = ["SHARED", "ID", "ARRIVED"]
    echo_table(options.color, headings, rows, "There are no models.", sums=sums, spare=spare)


@click.command()
@click.option(
    "--sort",
    type=click.Choice(["name", "size", "deleted", "expires"]),
    default="deleted",
    show_default=True,
    help="Sizes: the largest first; deleted: the latest first; expires: the next first.",
)
@reverse_option
@json_option
@click.pass_obj
def deleted(options: Options, sort: str, *, reverse: bool, as_json: bool) -> None:
    """
    List what was deleted, and until when it can be restored.

    BY is who deleted it, and from where, if the history knows that of any.
    """
    models = options.cache().deleted()
    descending = sort in ("size", "deleted")
    models.sort(key=lambda model: getattr(model, sort), reverse=descending != reverse)
    if as_json:
        echo_json(models)
        return
    headings = ["NAME", "SIZE", "DELETED", "RESTORABLE UNTIL"]
    if any(map(by_whom, models)):
        headings.append("BY")
    rows = [
        (
            short_name(model.name),
            format_size(model.size),
            format_time(model.deleted),
            restorable_until(model),
            by_whom(model),
        )[: len(headings)]
        for model in models
    ]
    echo_table(options.color, headings, rows, "Nothing is deleted.")
    for model in models:
        if model.missing:
            click.echo(f"{short_name(model.name)} lacks {', '.join(model.missing)}")


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_models)
@click.option(
    "--last",
    "-n",
    metavar="N",
    type=click.IntRange(1),
    default=LISTED,
    show_default=True,
    help="So many changes, or fewer.",
)
@json_option
@click.pass_obj
def history(options: Options, names: tuple[str, ...], last: int, *, as_json: bool) -> None:
    """
    List the last changes, the latest first.

    Those of the models of the names or patterns, or all. BY is who made a change, and from where,
    if that is known. SIZE is that of a deleted model, and for the rest how much was freed. The
    store keeps the last several hundred changes.
    """
    wanted = named_in(names)
    changes = [change for change in options.cache().history() if wanted(change.names)][:last]
    if as_json:
        echo_json(changes)
        return
    rows = [
        (
            format_time(change.when),
            escape(change.action),
            short_names(change.names, change.models),
            format_size(change.bytes) if change.bytes else "",
            by_whom(change),
        )
        for change in changes
    ]
    headings = ["WHEN", "WHAT", "MODEL", "SIZE", "BY"]
    echo_table(options.color, headings, rows, "No change is known.", wraps=["MODEL", "BY"])


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_models)
@click.option("--deep", is_flag=True, help="Read every blob, and compare its content.")
@click.option("--repair", is_flag=True, help="Put back what the trash or a prune still has.")
@click.option(
    "--threads", metavar="N", type=click.IntRange(1, 256), help="How many blobs to read at once."
)
@json_option
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
    options: Options = context.obj
    cache = options.cache()
    wanted = resolve(cache, names) if names else None
    with show_progress(options.color) as progress:
        report = cache.verify(wanted, deep=deep, repair=repair, threads=threads, progress=progress)
    if as_json:
        echo_json({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        echo_verified(report, deep=deep, repair=repair)
    context.exit(0 if report.ok else 1)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """
    Print what a shell needs to complete names.

    For bash, put this in ~/.bashrc: eval "$(registry-wsgi completion bash)"
    """
    group = context.find_root().command
    complete = get_completion_class(shell)
    if shell == "bash":
        click.echo("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}  # a name is one word, with its tag")
    if complete is not None:
        click.echo(complete(group, {}, PROGRAM, "_REGISTRY_WSGI_COMPLETE").source())
