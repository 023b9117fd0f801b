"""The commands that change the store: rm, restore, protect, unprotect, prune."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..cache.patterns import is_pattern, normalize
from ..durations import moment, to_seconds
from ..errors import (
    ModelNotFoundError,
    ModelProtectedError,
    RegistryError,
    escape,
    quote,
)
from .options import (
    Options,
    checked,
    dry_run_option,
    json_option,
    quiet_option,
    yes_option,
)
from .suggest import nearest
from .targets import (
    by_name,
    choose_delete,
    complete_deleted,
    complete_models,
    complete_protected,
    parse_time,
    resolve,
    resolve_deleted,
    stands_for,
)
from .terminal import (
    LISTED,
    counted,
    delete_outcome,
    echo_error,
    echo_freed,
    echo_json,
    echo_names,
    echo_pruned,
    echo_young,
    fail_for,
    format_time,
    removal_outcome,
    short_name,
    show_progress,
)

if TYPE_CHECKING:
    from ..cache.collector import PruneReport
    from ..cache.model_cache import ModelCache
    from ..cache.results import DeletedModel

__all__ = ["can_ask", "confirm", "must_ask", "protect", "prune", "restore", "rm", "unprotect"]


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_models)
@click.option("--now", is_flag=True, help="Without a way back: free the space at once.")
@dry_run_option
@yes_option
@json_option
@click.pass_context
def rm(
    context: click.Context,
    names: tuple[str, ...],
    *,
    now: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Delete models, with a way back.

    They can be restored for as long as the retention lasts. A NAME may be a pattern, in quotes:
    'llama*'. With a pattern, several names or --now it asks before it deletes.
    """
    options: Options = context.obj
    several = now or len(names) > 1 or is_pattern(names[0])
    asks = several and not dry_run and must_ask(yes)
    cache = options.cache()
    models = resolve(cache, names)
    _refuse_protected(cache, models)
    usage = cache.usage(models)
    outcome = ""
    stays = not now
    if not now:
        outcome = delete_outcome(cache, usage)
    elif dry_run or asks:
        plan = cache.foretell_removal(models)
        outcome, stays = removal_outcome(plan, usage), plan.models < len(models)
    if dry_run and as_json:
        told = {"models": models, "dry_run": True, "restorable": stays}
        echo_json({**told, **dataclasses.asdict(usage)})
        return
    if dry_run:
        echo_names(f"Would delete {counted(len(models), 'model')}:", models)
        click.echo(outcome)
        return
    if asks:
        good = " for good" if now else ""
        echo_names(f"This deletes{good} {counted(len(models), 'model')}:", models, err=True)
        click.echo(outcome, err=True)
        confirm("Delete?")
    begun = datetime.now(UTC)
    gone: list[str] = []
    freed = False
    try:
        failures = _delete(cache, models, gone)
        if now and gone:
            report = cache.forget(*gone, since=begun)
            freed = report.models >= len(gone)
            if not as_json:
                echo_freed(report, gone)
    finally:  # also after Ctrl-C: what was deleted until then can be undone
        if as_json:
            echo_json({"models": gone, "dry_run": False, "restorable": bool(gone) and not freed})
        elif gone and not freed:
            where = ", which can be restored" if now else ""
            heading = f"Deleted {counted(len(gone), 'model')}{where}"
            if asks:  # the question has shown the names and the outcome already
                click.echo(heading)
            else:
                echo_names(f"{heading}:", gone)
                if len(gone) == len(models) and not now:
                    click.echo(outcome)
            since = ["--since", begun.isoformat(), "*"]
            undo = [short_name(name) for name in gone] if len(gone) <= LISTED else since
            click.echo(f"Undo: {options.undo(context, undo)}")
    _raise_all(failures)


def _refuse_protected(cache: ModelCache, models: Sequence[str]) -> None:
    """Refuse to delete any of *models* if one of them is protected."""
    protected = cache.protected()
    for name in models:
        for pattern in protected:
            if stands_for(pattern, name):
                raise ModelProtectedError(short_name(name), pattern)


def _delete(cache: ModelCache, models: Sequence[str], gone: list[str]) -> list[RegistryError]:
    """Delete *models*, note in *gone* which are, and collect why the others are not."""
    failures: list[RegistryError] = []
    for name in models:
        try:
            if not cache.unlink(name):
                message = f"{short_name(name)}: it has just been deleted by another"
                raise ModelNotFoundError(message)
            gone.append(name)
        except RegistryError as error:
            failures.append(error)  # go on with the others
    return failures


def _raise_all(failures: Sequence[RegistryError]) -> None:
    """Say each of *failures*: the last one is raised, so that it makes the exit code."""
    for failure in failures[:-1]:
        echo_error(str(failure))
    if failures:
        raise failures[-1]


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_deleted
)
@click.option(
    "--since",
    metavar="TIME",
    callback=lambda *given: _parse_time(given[2]),
    help="Of those that match a pattern, only what was deleted since, as 2026-01-31 or"
    " '2026-01-31 12:00'.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Of several deletes of one name, the one at this time, as 'deleted' shows it: '2026-01-31"
    " 12:00'; or the one with this id of 'deleted --json'.",
)
@json_option
@click.pass_obj
def restore(
    options: Options,
    names: tuple[str, ...],
    since: datetime | None,
    at: str | None,
    *,
    as_json: bool,
) -> None:
    """
    Bring deleted models back.

    A NAME may be a pattern, in quotes: 'llama*'. Of several deletes of one name, it takes the
    latest that is whole. A model in place is never overwritten.
    """
    cache = options.cache()
    failures: list[RegistryError] = []
    back: list[str] = []
    wanted: list[tuple[str, str | None]] = []
    deletes = by_name(cache.deleted() if at else ())
    for name in resolve_deleted(cache, names, since):
        try:
            wanted.append((name, at and choose_delete(deletes[name.lower()], name, at)))
        except ModelNotFoundError as error:
            failures.append(error)
    for (name, _), restored in zip(wanted, cache.restore_each(wanted), strict=True):
        if isinstance(restored, str):
            back.append(restored)
            if not as_json:
                click.echo(f"Restored {short_name(restored)}")
        elif isinstance(restored, ModelNotFoundError):
            hint = "; a model of this name is in place"
            hint = hint if cache.find(name) else nearest(name, cache.deleted())
            failures.append(ModelNotFoundError(f"{restored}{hint}"))
        else:
            failures.append(restored)  # go on with the others
    if as_json:
        echo_json({"models": back})
    _raise_all(failures)


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_models)
@json_option
@click.pass_obj
def protect(options: Options, names: tuple[str, ...], *, as_json: bool) -> None:
    """
    Protect models from being deleted, until they are unprotected.

    A NAME may be a pattern, in quotes: 'llama*'. It protects models that come later, too.
    Without a NAME, this lists what is protected.
    """
    cache = options.cache()
    patterns = dict.fromkeys(map(normalize, names))  # all are checked before the first is kept
    for pattern in patterns:
        cache.protect(pattern)
    models = cache.models() if patterns or as_json else []
    shown = {
        pattern: [model.name for model in models if stands_for(pattern, model.name)]
        for pattern in patterns or cache.protected()
    }
    if as_json:
        echo_json([{"pattern": pattern, "models": of} for pattern, of in shown.items()])
        return
    for pattern, of in shown.items():
        now = f" ({counted(len(of), 'model')} now)" if patterns else ""
        click.echo(f"{'Protected ' if patterns else ''}{escape(pattern)}{now}")


@click.command()
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_protected
)
@json_option
@click.pass_obj
def unprotect(options: Options, names: tuple[str, ...], *, as_json: bool) -> None:
    """
    End the protection of models.

    Each NAME is a name or pattern as it was given to "protect".
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
        if not as_json:
            click.echo(f"Unprotected {pattern}")
    if as_json:
        echo_json([{"pattern": pattern} for pattern in patterns])


@click.command()
@click.option(
    "--age",
    metavar="DURATION",
    callback=checked(to_seconds),
    help="How long ago, as 0, 90s, 15m, 12h, 7d or 2w; default: the retention. 0: at once, which"
    " takes even the blobs of a pull under way.",
)
@click.option(
    "--all", "every", is_flag=True, help="Also models that arrived longer ago than the age."
)
@click.option(
    "--before",
    metavar="TIME",
    callback=lambda *given: _parse_time(given[2]),
    help="What was deleted, or has come, after this time stays: 2026-01-31 or '2026-01-31 12:00'.",
)
@quiet_option
@dry_run_option
@yes_option
@json_option
@click.pass_obj
def prune(
    options: Options,
    age: str | None,
    before: datetime | None,
    *,
    every: bool,
    quiet_store: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Remove for good what is no longer needed.

    \b
    prune                  what was deleted or is needed by nothing for longer than the retention
    prune --age 7d         the same, with this age
    prune --age 0          all that is deleted or needed by nothing, now
    prune --age 7d --all   also models that arrived more than 7 days ago
    prune --age 0 --all    everything

    The age of a model is the time since it arrived, be it in use or not: for models that are no
    longer read there is "evict --unused 30d".

    A blob stays for as long as any model that stays uses it. With --all it asks first, and at a
    terminal with --age 0, too. --verbose names every model, however many there are, and every file.
    """
    seconds = None if age is None else to_seconds(age)
    asks = not dry_run and (must_ask(yes) if every else seconds == 0 and not yes and can_ask())
    cache = options.cache()

    def run(age: str | None = age, *, every: bool = every, dry_run: bool = True) -> PruneReport:
        with show_progress(options.color) as progress:
            return cache.prune(
                age=age,
                all=every,
                before=before,
                dry_run=dry_run,
                quiet_store=quiet_store,
                progress=progress,
            )

    if asks:
        plan = run()
        echo_pruned(options, plan, stderr=True)
        if plan.models or plan.blobs:
            confirm("Remove for good?")
        before = min(filter(None, (before, plan.begun)))
    report = run(dry_run=dry_run)
    if as_json:
        echo_json(report)
    else:
        echo_pruned(options, report)
        if dry_run and seconds != 0 and not (report.models or report.blobs or report.held_blobs):
            young = run("0", every=False)
            echo_young(options, young, _when_young_goes(cache, young, seconds))
    fail_for(report)


def _goes_from(model: DeletedModel, age: float | None) -> datetime:
    """Tell from when on a prune with this age removes a deleted model."""
    return model.expires if age is None else moment(model.deleted.timestamp() + age)


def _when_young_goes(cache: ModelCache, young: PruneReport, age: float | None) -> str:
    """Say when what nothing needs is old enough to go."""
    first = min((_goes_from(model, age) for model in cache.deleted()), default=None)
    rules = [f"Deleted models go from {format_time(first)} on."] if first else []
    files = [item.when for item in young.items if item.reason in ("partial", "unreferenced")]
    if files:
        until = moment(min(files).timestamp() + (cache.retention if age is None else age))
        rules.append(f"What was not deleted goes from {format_time(until)} on, if nobody uses it.")
    return " ".join(rules)


def must_ask(yes: bool) -> bool:
    """
    Tell whether to ask before going on: not with --yes.

    Raises:
        click.UsageError: There is neither --yes nor a terminal to ask on.
    """
    if yes:
        return False
    if not can_ask():
        raise click.UsageError("there is no terminal to ask on: give --yes to go on without")
    return True


def can_ask() -> bool:
    """Tell whether there is a terminal to ask on."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirm(question: str) -> None:
    if not click.confirm(question, err=True):
        raise click.ClickException("nothing was changed")


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
