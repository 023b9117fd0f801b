"""The parts of the page, as HTML. Whatever comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

from markupsafe import Markup

from ...cache.collector import Item, PruneReport
from ...cache.history import Change
from ...cache.results import DeletedModel, Model, Usage, restorable_until
from ...cache.space import Freed, Space
from ...cache.under_way import Work
from ...errors import InvalidNameError, escape
from ...figures import counted, format_size, format_time, made_by, short_name, short_names
from ...names import Name

__all__ = [
    "ORDERS",
    "ROWS",
    "View",
    "confirmation",
    "deletes",
    "history_part",
    "message",
    "models_part",
    "plan_part",
    "prune_part",
    "space_part",
    "sum_part",
    "trash_part",
    "undo_part",
    "work_part",
]

#: How many models, and how many deleted ones, are shown at once.
ROWS = 200

_Found = TypeVar("_Found", Model, DeletedModel)

_NEVER = datetime.max.replace(tzinfo=UTC)

#: By what the models can be sorted, and whether the largest comes first.
ORDERS: Mapping[str, tuple[str, Callable[[Model], object], bool]] = {
    "frees": ("what deleting frees", lambda model: (model.frees, model.size), True),
    "size": ("size", lambda model: model.size, True),
    "arrived": ("arrival, the latest first", lambda model: model.modified, True),
    "read": ("last read, the longest ago first", lambda model: model.read or _NEVER, False),
    "name": ("name", lambda model: short_name(model.name).lower(), False),
}

_PARTS = {
    "own": ("Models", "of one model"),
    "shared": ("Shared", "by several models"),
    "trash": ("Trash", "deleted models"),
    "aside": ("Set aside", "by a prune"),
    "unneeded": ("Unneeded", "by any model"),
    "unfinished": ("Unfinished", "downloads and creates"),
    "rest": ("Rest", "manifests"),
    "other": ("Other files", "not models"),
    "free": ("Free", ""),
}

_REASONS = {
    "expired": "Deleted models",
    "unreferenced": "Needed by nothing",
    "partial": "Unfinished downloads and other files",
}

_CHANGES = 10  # how many of the last changes are listed

_NOTHING = Markup("")


class View:
    """
    Which models are shown: those that *text* is in, in *order*, from the one numbered *start*.

    Of the trash as well: those that *text* is in, from the one numbered *trash*.

    Args:
        query: The query of the URL; what is wrong in it counts as left out.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self.text = query.get("q", "").strip()
        self.order = query.get("sort", "") if query.get("sort") in ORDERS else "frees"
        self.start, self.trash = (_row_number(query.get(key, "")) for key in ("from", "trash"))

    def query(self, start: int | None = None, *, trash: int | None = None) -> str:
        """Write it as the query of a URL, from another *start* perhaps, or of the *trash*."""
        start = self.start if start is None else start
        trash = self.trash if trash is None else trash
        given = {
            "q": self.text,
            "sort": "" if self.order == "frees" else self.order,
            "from": str(start or ""),
            "trash": str(trash or ""),
        }
        return urlencode({key: value for key, value in given.items() if value})

    def choose(self, models: Iterable[Model]) -> list[Model]:
        """Choose those of *models* that fit, in order."""
        _, key, reverse = ORDERS[self.order]
        return sorted(self.find(models), key=key, reverse=reverse)  # type: ignore[arg-type]

    def find(self, models: Iterable[_Found]) -> list[_Found]:
        """Find those of *models* that the text is in."""
        words = self.text.lower().split()
        return [
            model
            for model in models
            if all(word in short_name(model.name).lower() for word in words)
        ]


def _row_number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def _count(chosen: int, models: int) -> str:
    return f"{models:,}" if chosen == models else f"{chosen:,} of {models:,}"


def _name(name: str) -> Markup:
    """Write a name in a box of its own for its direction."""
    return Markup('<bdi class="n">{}</bdi>').format(short_name(name))


def _time(when: datetime) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(), format_time(when))


def is_valid(name: str) -> bool:
    """Tell whether *name* is a valid name: another one is of no use but on the command line."""
    try:
        Name.parse(name)
    except InvalidNameError:
        return False
    return True


def _list(items: Iterable[Markup]) -> Markup:
    return _NOTHING.join(items)


def space_part(space: Space, view: str = "") -> Markup:
    """
    Show what takes the space of the disk, or of the store where there is no disk.

    Args:
        space: What takes it.
        view: The query of the page that follows a delete of what cannot be read.
    """
    amounts = {
        part: getattr(space, part) if part in ("other", "free") else getattr(space, part).taken
        for part in _PARTS
    }
    known = {part: size for part, size in amounts.items() if size or part == "free"}
    whole = sum(size or 0 for size in known.values()) or 1
    bars, rows, left = [], [], 0.0
    for part, size in known.items():
        if size is None:
            continue  # a bucket is never full
        label, note = _PARTS[part]
        width = size / whole * 1_000
        if size:
            bars.append(
                Markup('<rect class="k-{}" x="{:.2f}" width="{:.2f}" height="20"/>').format(
                    part, left, max(width - 1.5, 1)
                )
            )
        left += width
        rows.append(
            Markup(
                '<li><svg class="sw" viewBox="0 0 1 1" aria-hidden="true"><rect class="k-{}"'
                ' width="1" height="1"/></svg><span>{} <i>{}</i></span> <b>{}</b></li>'
            ).format(part, label, note, format_size(size))
        )
    return Markup(
        '<section id="space" aria-labelledby="space-h"><h2 id="space-h">Space</h2>'
        '<p class="big">{}</p><svg class="bar" viewBox="0 0 1000 20" preserveAspectRatio="none"'
        ' role="img" aria-label="A bar of what the list below says in numbers.">{}</svg>'
        '<ul class="legend">{}</ul>{}{}</section>'
    ).format(
        _free(space), _list(bars), _list(rows), _unreadable(space, view), _could_be_freed(space)
    )


def _free(space: Space) -> Markup:
    if space.disk is None or space.free is None:
        return Markup("<b>{}</b> in the store").format(format_size(space.total.taken))
    low = Markup(' <span class="tag warn">low</span>') if space.free * 10 < space.disk else ""
    text = Markup("<b>{}</b> free of {}{}")
    return text.format(format_size(space.free), format_size(space.disk), low)


def _unreadable(space: Space, view: str) -> Markup:
    if space.out_of_reach is not None and not space.unreadable:
        return Markup(
            '<p class="warn">Nothing can be freed, as manifests are out of reach:'
            " a disk may be missing. <code>registry-wsgi df</code> says where.</p>"
        )
    if not space.unreadable:
        return _NOTHING
    names = Markup(", ").join(
        Markup("{} {}").format(_name(name), _DELETE.format(short_name(name)))
        for name in space.unreadable
    )
    return Markup(
        '<form method="post" action="do"><input type="hidden" name="view" value="{}">'
        '<p class="warn">No blob is removed until these are deleted or put right: {}</p></form>'
    ).format(view, names)


def _could_be_freed(space: Space) -> Markup:
    freed = space.frees.get("prune", Freed())
    if not (freed.now or freed.later):
        return _NOTHING
    text = Markup('<p>A <a href="#prune">prune</a> would free <b>{}</b> now{}.</p>')
    later = _NOTHING
    if freed.later and freed.first is not None:
        later = Markup(", and <b>{}</b> later, from {} on").format(
            format_size(freed.later), _time(freed.first)
        )
    return text.format(format_size(freed.now) if freed.now else "nothing", later)


def models_part(models: Sequence[Model], view: View, retention: float) -> Markup:
    """List the models of *view*."""
    chosen = view.choose(models)
    start = view.start if view.start < len(chosen) else 0
    shown = chosen[start : start + ROWS]
    most = max((model.frees for model in chosen), default=0) or 1
    return Markup(
        '<section id="list" aria-labelledby="models"><h2 id="models" tabindex="-1">Models'
        ' <span class="dim" id="count">{count}</span></h2><p class="dim">{rule}</p>'
        '<form id="find" role="search"><label>Search <input id="q" name="q" type="search"'
        ' value="{q}" autocomplete="off" spellcheck="false"></label> <label>Sort by'
        ' <select id="sort" name="sort">{orders}</select></label> <button>Show</button></form>'
        '<form method="post" action="do"><input type="hidden" name="view" value="{view}">'
        "{table}{pages}</form>"
        '<p class="dim note">“Deleting frees” leaves out what other models use, too. “Last read” is'
        " when the file system says that the largest blob was read, and may be a day behind.</p>"
        "</section>"
    ).format(
        count=_count(len(chosen), len(models)),
        rule=_rule(retention),
        q=view.text,
        orders=_list(
            Markup('<option value="{}"{}>{}</option>').format(
                order, Markup(" selected") if order == view.order else "", label
            )
            for order, (label, _, _) in ORDERS.items()
        ),
        view=view.query(),
        table=_table(shown, most) if shown else Markup('<p class="empty">No model is here.</p>'),
        pages=_pages(start, len(chosen), lambda other: f"{view.query(other)}#models"),
    )


def _rule(retention: float) -> str:
    if retention:
        return f"A deleted model goes to the trash, and can be restored for {_days(retention)}."
    return "A delete is final here, as the retention is 0."


def _days(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = round(seconds / length, 1)
            return f"{number:g} {unit}{'' if number == 1 else 's'}"
    return f"{seconds:g} seconds"


def _head(*columns: tuple[str, str]) -> Markup:
    """Write the head of a table: the class and text of each column; one without text is a cell."""
    cells = [
        Markup('<th role="columnheader" scope="col" class="{}">{}</th>').format(style, label)
        if label
        else Markup('<td role="cell" class="{}"></td>').format(style)
        for style, label in columns
    ]
    return Markup('<thead role="rowgroup"><tr role="row">{}</tr></thead>').format(_list(cells))


def _table(models: Iterable[Model], most: int) -> Markup:
    head = _head(
        *(("c", ""), ("", "Name"), ("s", "Size"), ("f", "Deleting frees")),
        *(("a", "Arrived"), ("r", "Last read"), ("d", "")),
    )
    return Markup(
        '<table role="table" id="t">{}<tbody role="rowgroup">{}</tbody></table>'
        '<p id="pick"><span id="sum"></span> <button name="delete" value="">Delete the selected'
        '</button> <button name="sum" value="">Add up the selected</button></p>'
    ).format(head, _list(_row(model, most) for model in models))


_BOX = Markup('<input type="checkbox" name="model" value="{0}" aria-label="Select {0}">')
_BAR = Markup(
    '<svg class="m" viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true">'
    '<rect width="{:.1f}" height="3"/></svg>'
)
_DELETE = Markup('<button name="delete" value="{0}" aria-label="Delete {0}">Delete</button>')
_ROW = Markup(
    '<tr role="row"><td role="cell" class="c">{}</td><th role="rowheader" scope="row">{}{}</th>'
    '<td role="cell" class="s">{}</td><td role="cell" class="f">{}{}</td>'
    '<td role="cell" class="a">{}</td><td role="cell" class="r">{}</td>'
    '<td role="cell" class="d">{}</td></tr>'
)


def _row(model: Model, most: int) -> Markup:
    name = short_name(model.name)
    note = Markup(" <small>{} shared with others</small>").format(format_size(model.shared))
    box, act = _BOX.format(name), _DELETE.format(name)
    if model.protected or not model.valid:
        box = _NOTHING
        act = Markup('<span class="tag">{}</span>').format(
            "protected" if model.protected else "no valid name"
        )
    return _ROW.format(
        box,
        _name(model.name),
        note if model.shared * 100 > model.size else "",
        format_size(model.size),
        format_size(model.frees),
        _BAR.format(model.frees / most * 100),
        _time(model.modified),
        _time(model.read) if model.read else "not known",
        act,
    )


def _pages(start: int, count: int, link: Callable[[int], str]) -> Markup:
    """Lead to the models before and after those shown, by what *link* makes of a number."""
    if count <= ROWS:
        return _NOTHING
    links = [
        Markup('<a class="button" href="./?{}">{}</a> ').format(link(max(other, 0)), label)
        for other, label in ((start - ROWS, "Before"), (start + ROWS, "After"))
        if 0 <= other < count or (other < 0 < start)
    ]
    return Markup("<p>{:,} to {:,} of {:,} {}</p>").format(
        start + 1, min(start + ROWS, count), count, _list(links)
    )


def deletes(models: Iterable[DeletedModel]) -> list[str]:
    """Say in a form which deletes are meant: the id of each, and its name."""
    return [f"{model.id} {short_name(model.name)}" for model in models]


def trash_part(models: Sequence[DeletedModel], view: View) -> Markup:
    """List the deleted models of *view*, the latest first."""
    chosen = view.find(models)
    start = view.trash if view.trash < len(chosen) else 0
    table = Markup(
        '<form method="post" action="do"><input type="hidden" name="view" value="{}">'
        '<table role="table">{}<tbody role="rowgroup">{}</tbody></table></form>{}'
    ).format(
        view.query(),
        _head(
            *(("", "Name"), ("s", "Size"), ("a", "Deleted"), ("u", "Restorable until"), ("d", "")),
        ),
        _list(map(_deleted_row, chosen[start : start + ROWS])),
        _pages(start, len(chosen), lambda other: f"{view.query(trash=other)}#trash-h"),
    )
    empty = Markup('<p class="dim">{}</p>').format(
        "Nothing in it fits the search." if models else "It is empty."
    )
    return Markup(
        '<section id="trash" aria-labelledby="trash-h"><h2 id="trash-h" tabindex="-1">Trash'
        ' <span class="dim">{}</span></h2>{}</section>'
    ).format(_count(len(chosen), len(models)), table if chosen else empty)


def _deleted_row(model: DeletedModel) -> Markup:
    (delete,) = deletes([model])
    name = short_name(model.name)
    valid = is_valid(model.name)
    by = made_by(model.user, model.source)
    act = Markup('<button name="restore" value="{}" aria-label="Restore {}">Restore</button> ')
    gone = Markup(
        '<a class="button" href="prune?{}#plan" aria-label="Remove {} for good: see first what'
        ' goes">Remove…</a>'
    )
    return Markup(
        '<tr role="row"><th role="rowheader" scope="row">{}</th><td role="cell" class="s">{}</td>'
        '<td role="cell" class="a">{}</td><td role="cell" class="u">{}</td>'
        '<td role="cell" class="d">{}{}</td></tr>'
    ).format(
        _name(model.name) + (Markup(" <small>by {}</small>").format(by) if by else ""),
        format_size(model.size),
        _time(model.deleted),
        restorable_until(model),
        act.format(delete, name) if valid and model.restorable else "",
        gone.format(urlencode({"only": delete}), name) if valid else "",
    )


def work_part(work: Work | None) -> Markup:
    """Show how far a removal is, by whatever process."""
    if work is None:
        return _NOTHING
    by = made_by(work.user, work.source)
    known = work.what and work.total
    done = min(work.done, work.total or 0)
    said = escape(work.what)
    if known:
        said += f": {done / (work.total or 1):.0%}"
    elif work.done:
        said += f": {work.done:,}"
    return Markup(
        '<section id="work" aria-labelledby="work-h"><h2 id="work-h">A removal is under way</h2><p'
        ' class="dim">{}</p><progress aria-labelledby="work-h"{}></progress></section>'
    ).format(
        Markup("<br>").join(filter(None, [by and f"By {by}.", said])),
        Markup(' max="{}" value="{}"').format(work.total, done) if known else "",
    )


def history_part(changes: Sequence[Change]) -> Markup:
    """List the last changes, the latest first."""
    if not changes:
        return _NOTHING
    row = Markup(
        '<tr role="row"><td role="cell" class="a">{}</td><td role="cell">{}</td>'
        '<th role="rowheader" scope="row">{}</th><td role="cell" class="s">{}</td>'
        '<td role="cell" class="b">{}</td></tr>'
    )
    rows = [
        row.format(
            _time(change.when),
            escape(change.action),
            Markup("<bdi>{}</bdi>").format(short_names(change.names, change.models)),
            format_size(change.bytes) if change.bytes else "",
            made_by(change.user, change.source),
        )
        for change in changes[:_CHANGES]
    ]
    head = _head(("a", "When"), ("", "What"), ("", "Model"), ("s", "Size"), ("b", "By"))
    return Markup(
        '<section id="history" aria-labelledby="history-h"><h2 id="history-h">Last changes</h2>'
        '<table role="table">{}<tbody role="rowgroup">{}</tbody></table></section>'
    ).format(head, _list(rows))


def prune_part(retention: float, deleted: bool, plan: Markup = _NOTHING) -> Markup:
    """Offer to show what would go; *plan* is what was asked for."""
    trash = Markup(' <button name="what" value="trash">Empty the trash…</button>')
    return Markup(
        '<section id="prune" aria-labelledby="prune-h"><h2 id="prune-h" tabindex="-1">Prune</h2>'
        '<p class="dim">Removes for good what has been deleted, or needed by nothing, for longer'
        " than {}. No model in the list above loses anything. You see first what would go.</p>"
        '<form action="prune#plan" id="look"><button name="what" value="due">Show what would go…'
        "</button>{}</form>{}</section>"
    ).format(_days(retention), trash if deleted else "", plan)


def plan_part(
    report: PruneReport, fields: Mapping[str, str], title: str, *, quiet: bool, forgets: bool
) -> Markup:
    """
    Show what a run would remove, by name, with the button that does it.

    Args:
        report: That of the dry run.
        fields: What the form sends with the button.
        title: What was asked for.
        quiet: Whether nothing waits for downloads.
        forgets: Whether it is about deleted models alone, which stay whole while one has to wait.
    """
    hidden = _list(
        Markup('<input type="hidden" name="{}" value="{}">').format(*field)
        for field in fields.items()
    )
    gone = bool(report.models or report.blobs)
    run = Markup(
        '<form method="post" action="do" id="really">{}{}<button class="{}">{}</button></form>'
    ).format(
        hidden,
        Markup('<input type="hidden" name="quiet" value="1">') if quiet else "",
        "danger" if gone else "",
        "Remove for good" if gone else "Set aside",
    )
    asked = {"prune": "what", "forget": "only"}
    look = {asked[field]: value for field, value in fields.items() if field in asked}
    wait = Markup(
        '<a class="button" href="prune?{}#plan">No download is under way: do not wait</a>'
    ).format(urlencode({**look, "quiet": "1"}))
    return Markup(
        '<div id="plan" class="plan" tabindex="-1"><h3>{}</h3>{}<p id="verdict">{}</p>'
        '<div class="row">{}{}<a class="button" href="./#prune">{}</a></div></div>'
    ).format(
        title,
        _groups(report),
        _verdict(report, quiet=quiet),
        run if gone or (report.held_blobs and not forgets) else "",
        wait if report.held_blobs and not quiet else "",
        "Cancel" if gone else "Close",
    )


def _verdict(report: PruneReport, *, quiet: bool) -> Markup:
    if report.unsettled:
        return Markup("Models came and went all the while. Look again.")
    said = []
    if report.models or report.blobs:
        what = " and ".join(
            counted(number, noun)
            for number, noun in ((report.models, "deleted model"), (report.blobs, "blob"))
            if number
        )
        said.append(
            Markup(
                "This removes <b>{}</b> for good, and frees <b>{}</b>. It cannot be undone."
            ).format(what, format_size(report.bytes))
        )
    elif not report.held_blobs:
        said.append(Markup("There is nothing to remove."))
    else:
        said.append(Markup("Nothing would be removed yet."))
    if report.held_blobs and report.held_until is not None:
        said.append(
            Markup(
                "<b>{}</b> wait: the store was in use of late, and a download may count on them."
                " Later prunes remove them, at the latest from {}."
            ).format(format_size(report.held_bytes), _time(report.held_until))
        )
    if quiet:
        said.append(Markup('<span class="tag warn">Only while nothing is being downloaded.</span>'))
    return Markup(" ").join(said)


def _groups(report: PruneReport) -> Markup:
    groups = []
    for reason, label in _REASONS.items():
        items = [item for item in report.items if item.reason == reason]
        models = [item for item in items if item.model]
        files = [item for item in items if not item.model]
        if models:
            groups.append(_group(label, models))
        if files:
            groups.append(_group("Their files" if reason == "expired" else label, files))
    if report.left_out:
        text = Markup(
            '<p class="warn"><b>{:,} more are not named here</b>: only the thousand largest models'
            " and the thousand largest files are. The numbers below count all of them.</p>"
        )
        groups.append(text.format(report.left_out))
    return _list(groups)


def sum_part(count: int, usage: Usage) -> Markup:
    """Say what deleting some models together frees: what they share goes only with the last."""
    frees = format_size(usage.size - usage.shared)
    return message(f"{count:,} selected, {format_size(usage.size)}: deleting them frees {frees}")


def _group(label: str, items: Sequence[Item]) -> Markup:
    lines = [
        Markup('<li>{} <span class="dim">since {}</span> <b>{}{}</b></li>').format(
            _name(item.model) if item.model else _file(item.file or ""),
            _time(item.when),
            format_size(item.bytes),
            " waits" if item.held else "",
        )
        for item in items
    ]
    return Markup(
        '<details open><summary>{} <span class="dim">{:,}</span></summary><ul>{}</ul></details>'
    ).format(label, len(items), _list(lines))


def _file(name: str) -> Markup:
    text = escape(name)
    return Markup('<bdi class="mono">{}</bdi>').format(
        text if len(text) < 60 else f"{text[:22]}…{text[-12:]}"
    )


def undo_part(models: Sequence[DeletedModel], deleted: int, view: str, failure: str = "") -> Markup:
    """
    Say that models were deleted just now, with the button that brings them back.

    Args:
        models: Those that can be named.
        deleted: How many there are.
        view: The query of the page that follows the button.
        failure: What could not be deleted, and why.
    """
    if not deleted:
        return message(failure, bad=True) if failure else _NOTHING
    if not models:
        return message(f"Deleted {counted(deleted, 'model')}. {failure}", bad=bool(failure))
    what = _name(models[0].name) if len(models) == 1 else counted(len(models), "model")
    until = _NOTHING
    whole = [model for model in models if model.restorable]
    lost = len(models) - len(whole)
    if lost and len(models) > 1:
        until = Markup(" {} of them cannot be restored.").format(lost)
    elif lost:
        why = "as blobs of it are gone" if models[0].missing else "as its manifest cannot be read"
        until = Markup(" It cannot be restored, {}.").format(why)
    elif len(models) == 1:
        until = Markup(" It can be restored until {}.").format(restorable_until(models[0]))
    if not whole:
        text = Markup("Deleted {}.{} {}").format(what, until, failure)
        return message(text, bad=bool(failure))
    fields = _list(
        Markup('<input type="hidden" name="deleted" value="{}">').format(delete)
        for delete in deletes(whole)
    )
    return Markup(
        '<form method="post" action="do" id="notice" class="notice"><p role="status">Deleted {}.'
        '{} {}</p><input type="hidden" name="view" value="{}">{}<button name="restore" value="">'
        "Undo <kbd>Ctrl Z</kbd></button></form>"
    ).format(
        what,
        until,
        failure,
        view,
        fields,
    )


def message(text: str | Markup, *, bad: bool = False) -> Markup:
    """Say *text* at the top of the page."""
    return Markup('<div id="notice" class="notice{}" role="{}"><p>{}</p></div>').format(
        " warn" if bad else "", "alert" if bad else "status", text
    )


def confirmation(
    names: Sequence[str], models: Mapping[str, str], view: str, *, changed: bool
) -> Markup:
    """
    Ask before a delete that cannot be undone.

    Args:
        names: The models that are to be deleted.
        models: Those that can be, each with what tells it from another one of its name.
        view: The query of the page that follows.
        changed: Whether this was asked before, about other models of these names.
    """
    items = _list(Markup("<li>{}</li>").format(_name(name)) for name in models)
    field = Markup('<input type="hidden" name="{}" value="{}">')
    fields = _list(field.format("model", name) for name in names)
    fields += _list(field.format("sure", model) for model in models.values())
    again = Markup(
        '<p role="alert">Nothing was deleted: a model has come under such a name since you were'
        " asked.</p>"
    )
    return Markup(
        '<section id="plan" class="plan" tabindex="-1"><h2>Delete for good?</h2>{}<ul>{}</ul><p>The'
        " retention is 0, so this cannot be undone.</p>"
        '<div class="row"><form method="post" action="do">{}<input type="hidden" name="view"'
        ' value="{}"><button name="delete" value="" class="danger">Delete for good</button></form>'
        '<a class="button" href="./?{}">Cancel</a></div></section>'
    ).format(again if changed else "", items, fields, view, view)
