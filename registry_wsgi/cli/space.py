"""The commands about the space that models take: df, orphans, forget."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import click

from ..errors import one_line
from ..figures import format_day
from .change import confirm, must_ask
from .options import Options, dry_run_option, json_option, quiet_option, yes_option
from .targets import by_name, choose_delete, complete_deleted, resolve_deleted
from .terminal import (
    counted,
    echo_freed,
    echo_json,
    echo_names,
    echo_table,
    fail_for,
    format_size,
    short_file,
    short_name,
    show_progress,
)

__all__ = ["df", "forget", "orphans"]

# How the parts of the space are called, in the order in which they are shown.
_PARTS = {
    "own": "of one model",
    "shared": "shared by models",
    "trash": "in the trash",
    "aside": "set aside by a prune",
    "unneeded": "needed by nothing",
    "unfinished": "unfinished",
    "rest": "manifests, folders and the rest",
    "total": "together",
}


@click.command()
@json_option
@click.pass_obj
def df(options: Options, *, as_json: bool) -> None:
    """
    Show what takes the space, and what each command would free.

    Each content counts once. ON DISK is as "du" counts it, and so are FREES NOW and LATER; SIZE is
    that of the files. While a download is under way, or was of late, prune and forget free later.
    """
    space = options.cache().space()
    if as_json:
        echo_json(space)
        return
    parts = {heading: getattr(space, part) for part, heading in _PARTS.items()}
    rows = [
        (heading, f"{part.files:,}", format_size(part.size), format_size(part.taken))
        for heading, part in parts.items()
    ]
    disk = {"other files": space.other, "free": space.free, "disk": space.disk}
    rows += [
        (heading, "", "", format_size(size)) for heading, size in disk.items() if size is not None
    ]
    echo_table(options.color, ["WHAT", "FILES", "SIZE", "ON DISK"], rows)
    click.echo(f"{counted(space.models, 'model')}, {space.deleted:,} in the trash")
    click.echo()
    commands = [
        (
            command.replace(" *", " '*'"),
            format_size(freed.size),
            format_size(freed.now),
            format_size(freed.later),
            " to ".join(dict.fromkeys(format_day(at) for at in (freed.first, freed.last) if at)),
        )
        for command, freed in space.frees.items()
    ]
    echo_table(options.color, ["COMMAND", "SIZE", "FREES NOW", "LATER", "FROM"], commands)
    if space.held is not None:
        click.echo(f"Later, as {space.held}.")
    if space.out_of_reach is not None:
        click.echo(f"Nothing can be freed: {one_line(space.out_of_reach)}")
    elif space.unreadable:
        names = ", ".join(map(short_name, space.unreadable))
        click.echo(f"No blob is removed until these are deleted or put right: {names}")


@click.command()
@json_option
@click.pass_obj
def orphans(options: Options, *, as_json: bool) -> None:
    """
    List the files that nothing needs, why, and when they go.

    From the day of GOES on a prune takes them, unless somebody uses them; "prune --age 0" takes
    them at once. While a manifest cannot be read, no day is known, and nothing goes.
    """
    found = options.cache().orphans()
    if as_json:
        echo_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        (
            short_file(orphan.file),
            format_size(orphan.size),
            _age(orphan.changed, now),
            orphan.cause,
            format_day(orphan.goes) if orphan.goes else "",
        )
        for orphan in found
    ]
    headings = ["FILE", "SIZE", "AGE", "LIKELY CAUSE", "GOES"]

    def sums() -> str:
        files = counted(sum(orphan.files for orphan in found), "file")
        size = format_size(sum(orphan.size for orphan in found))
        return f"{files}, {size}, {format_size(sum(one.taken for one in found))} on disk"

    echo_table(options.color, headings, rows, "Everything is needed.", sums=sums)


def _age(changed: datetime, now: datetime) -> str:
    """Write how long ago something changed, in the largest unit that fits."""
    seconds = max((now - changed).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return "now"


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_deleted
)
@click.option(
    "--at",
    metavar="TIME",
    help="Of several deletes of one name, only the one at this time, as 'deleted' shows it, or with"
    " this id of 'deleted --json'.",
)
@quiet_option
@dry_run_option
@yes_option
@json_option
@click.pass_obj
def forget(
    options: Options,
    names: tuple[str, ...],
    at: str | None,
    *,
    quiet_store: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Remove deleted models for good, and free their space now.

    A NAME may be a pattern, in quotes: 'llama*'. It stands for all deletes of that name. Nothing
    else goes, and what a download under way may use stays until the next prune. It asks first.
    """
    asks = not dry_run and must_ask(yes)
    cache = options.cache()
    models = resolve_deleted(cache, names)
    chosen: str | datetime | None = None
    if at is not None:
        if len(models) > 1:
            raise click.UsageError("--at goes with a single name")
        chosen = choose_delete(by_name(cache.deleted())[models[0].lower()], models[0], at)
    run = partial(cache.forget, *models, at=chosen, quiet_store=quiet_store)
    if asks:
        report = run(dry_run=True)
        echo_names(f"This removes for good {counted(len(models), 'model')}:", models, err=True)
        deletes = counted(report.models, "delete")
        click.echo(f"{deletes}, {format_size(report.bytes)} will be freed now.", err=True)
        confirm("Remove for good?")
    with show_progress(options.color) as progress:
        report = run(dry_run=dry_run, progress=progress)
    if as_json:
        echo_json(report)
    else:
        echo_freed(report, models)
    fail_for(report)
