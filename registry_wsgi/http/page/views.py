"""What the page answers: it shows the store, and does what its forms ask for."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast
from urllib.parse import parse_qsl, urlencode

from markupsafe import Markup
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Response

from ...cache import Cache
from ...cache.collector import PruneReport
from ...cache.results import DeletedModel
from ...errors import ConfigurationError, RegistryError
from ...figures import counted, format_size
from ...names import Name
from ..answers import blocked, refused
from ..maintenance import claim, read_time, stream_prune
from ..request import EVERYTHING, Endpoint, Request
from .access import check_form, check_path, here_alone, is_own_link, secure
from .assets import Asset, assets, frame
from .parts import (
    View,
    confirmation,
    history_part,
    message,
    models_part,
    plan_part,
    prune_part,
    space_part,
    sum_part,
    trash_part,
    undo_part,
    work_part,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ...cache.model_cache import ModelCache

__all__ = ["StoragePage"]

# What a cache needs for the page: the methods of `registry_wsgi.ModelCache`.
_METHODS = ("models", "usage", "space", "deleted", "restore_each", "prune", "forget", "claim")

# More deletes than these are not named in the URL of the page that follows them.
_MOST_UNDOS = 50

# The reasons why a model could not be deleted, of which no more are said at once.
_MOST_PROBLEMS = 5

# From what age on a model goes when the trash is emptied: an age of 0 would also say that no
# download is under way.
_JUST_NOW = timedelta(microseconds=1)

_FORM = "application/x-www-form-urlencoded"

_HTML = "text/html; charset=utf-8"


_CHANGED = Markup(
    'Nothing was removed. What would go is no longer what you saw: <a href="#plan">look at it once'
    " more</a>."
)


class _Removal(NamedTuple):
    """
    A removal for good, to be shown or done.

    Attributes:
        run: Does it; with ``dry_run=True`` it only tells what would go.
        fields: What the form says that asks for it.
        title: What it is about.
        quiet: Whether nothing waits for downloads.
    """

    run: partial[PruneReport]
    fields: dict[str, str]
    title: str
    quiet: bool


class _Act(Protocol):
    def __call__(self, request: Request, form: MultiDict[str, str]) -> Response: ...


class StoragePage:
    """
    The endpoints of the page.

    Args:
        path: Where it is, ``/registry/`` say.
        cache: Where the models are.
        unlink: Deletes a model, or raises an HTTPException.
        clean_up: Prunes after a delete.

    Attributes:
        endpoints: Each path and method of the page, with its endpoint.

    Raises:
        ConfigurationError: *path* is none for the page, or *cache* lacks a method.
    """

    def __init__(self, path: str, cache: Cache, *, unlink: Any, clean_up: Any) -> None:
        check_path(path)
        for method in _METHODS:
            if not callable(getattr(cache, method, None)):
                raise ConfigurationError(f"page: {cache!r} has no method {method}()")
        self._cache = cast("ModelCache", cache)
        self._path = path
        self._unlink = unlink
        self._clean_up = clean_up
        self._acts: dict[str, _Act] = {
            "delete": self._delete,
            "restore": self._restore,
            "prune": self._prune,
            "forget": self._forget,
            "sum": self._sum,
        }
        reads: dict[str, Endpoint] = {
            path[:-1]: partial(_to_the_page, path.rpartition("/")[0].rpartition("/")[2]),
            path: self._show,
            f"{path}prune": self._look,
        }
        reads |= {path + asset.name: partial(_send, asset) for asset in assets().values()}
        self.endpoints: dict[str, Mapping[str, Endpoint]] = {
            place: dict.fromkeys(("GET", "HEAD"), self._guarded(endpoint))
            for place, endpoint in reads.items()
        }
        self.endpoints[f"{path}do"] = {"POST": self._guarded(self._act)}

    def error_response(self, problem: HTTPException, environ: WSGIEnvironment) -> Response:
        """Make the page that says what is wrong; the response that *problem* has is not changed."""
        response = problem.get_response(environ)
        if problem.response is not None or response.status_code < 400:
            return response
        if response.status_code == 401:
            main = Markup(
                '<section id="locked" class="empty"><h2>A token is needed</h2><noscript><p>Without'
                " JavaScript it cannot be given here. On the machine there is the command"
                " <code>registry-wsgi</code>.</p></noscript></section>"
            )
        else:
            main = Markup(
                '<section class="empty"><h2>{}</h2><p id="error" role="alert">{}</p>'
                '<p><a href="./">Back to the page</a></p></section>'
            ).format(problem.name, problem.description or "")
        response.data = _framed(main)
        response.content_type = _HTML
        return secure(response)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """Let only those get to *endpoint* who may use the page at all."""

        def guarded(request: Request) -> Response:
            if request.authorize is None:
                here_alone(request.environ, "", "")
            if request.environ["REQUEST_METHOD"] == "POST":
                check_form(request.environ)
            return secure(endpoint(request))

        return guarded

    # What is shown

    def _show(self, request: Request) -> Response:
        query = _query(request)
        request.permit("models", EVERYTHING)
        if query.get("part") == "work":
            work = self._work() if _may(request, "space") else Markup()
            return Response(_framed(work), content_type=_HTML)
        view = _view_of(query) if "view" in query else View(query)
        return self._page(request, view, part=query.get("part", ""))

    def _page(
        self,
        request: Request,
        view: View,
        *,
        part: str = "",
        said: Markup | None = None,
        plan: Markup | None = None,
        status: int = 200,
    ) -> Response:
        """Show the models, and whatever else the client may see."""
        with refused():
            main = models_part(self._cache.models(), view, self._cache.retention)
        if part != "list":
            main = self._around(request, view, main, said, plan)
        host = socket.gethostname()
        return Response(_framed(main, host), status=status, content_type=_HTML)

    def _around(
        self,
        request: Request,
        view: View,
        models: Markup,
        said: Markup | None,
        plan: Markup | None,
    ) -> Markup:
        trash: list[DeletedModel] | None = None
        space = Markup()
        if _may(request, "deleted"):
            with refused():
                trash = self._cache.deleted()
        if _may(request, "space"):
            with refused():
                space = self._work() + space_part(self._cache.space(), view.query())
        if said is None and not is_own_link(request.environ, self._path):
            said = Markup()
        if said is None:
            said = self._said(_query(request), trash or [], view)
        below = Markup()
        if trash is not None:
            below = trash_part(trash, view)
        below += prune_part(self._cache.retention, bool(trash), plan or Markup())
        if callable(getattr(self._cache, "history", None)) and _may(request, "history"):
            with refused():
                below += history_part(self._cache.history())
        return said + space + models + below

    def _work(self) -> Markup:
        tell = getattr(self._cache, "under_way", None)
        return work_part(tell()) if callable(tell) else Markup()

    def _said(
        self, query: MultiDict[str, str], trash: Sequence[DeletedModel], view: View
    ) -> Markup:
        """Say what the form before has done."""
        undo = set(query.getlist("undo"))
        if undo:
            found = [model for model in trash if model.id in undo]
            return undo_part(found, len(found), view.query())
        number = {key: _number(query, key) for key in ("deleted", "restored", "models", "blobs")}
        if number["deleted"]:
            models = counted(number["deleted"], "model")
            if not self._cache.retention:
                # What a download may use is in the trash until the next prune.
                return message(f"Deleted {models}{'' if trash else ' for good'}.")
            # Fewer would be named above if the trash listed them: a link that leads nowhere is in
            # the trash, too, and in no list.
            listed = trash and number["deleted"] > _MOST_UNDOS
            return message(f"Deleted {models}.{' They are in the trash below.' if listed else ''}")
        if number["restored"]:
            return message(f"Restored {counted(number['restored'], 'model')}.")
        if "bytes" not in query:
            return Markup()
        text = "Removed nothing."
        if number["models"] or number["blobs"]:
            text = (
                f"Removed {counted(number['models'], 'model')} and"
                f" {counted(number['blobs'], 'blob')} for good:"
                f" {format_size(_number(query, 'bytes'))} are free."
            )
        if held := _number(query, "held"):
            text += f" {format_size(held)} wait for a later prune."
        if failed := _number(query, "failed"):
            text += f" {counted(failed, 'file')} could not be removed; the log says why."
        return message(text)

    def _look(self, request: Request) -> Response:
        """Show what a prune would remove, by name."""
        query = _query(request)
        quiet = "quiet" in query
        only = query.get("only", "")
        if only:
            removal = self._forgetting(request, only, quiet=quiet)
        else:
            removal = self._pruning(request, query.get("what", ""), quiet=quiet)
        return self._planned(request, removal, _view_of(query))

    def _forgetting(self, request: Request, text: str, *, quiet: bool) -> _Removal:
        name, entry = self._one_delete(request, "forget", text)
        run = partial(self._cache.forget, name, at=entry, quiet_store=quiet)
        return _Removal(run, {"forget": text}, f"What would go: {name}", quiet=quiet)

    def _pruning(self, request: Request, what: str, *, quiet: bool) -> _Removal:
        request.permit("prune", EVERYTHING)
        run = partial(self._cache.prune, **_kind(what), quiet_store=quiet)
        return _Removal(run, {"prune": what}, "What would go", quiet=quiet)

    def _planned(
        self,
        request: Request,
        removal: _Removal,
        view: View,
        *,
        said: Markup | None = None,
        status: int = 200,
    ) -> Response:
        """Show what *removal* would take, with a form that is bound to just that."""
        action = request.action
        report = _report_of(removal.run, dry_run=True)
        fields = {**removal.fields, "shown": _digest(report)}
        forgets = "forget" in fields
        if not forgets and report.begun is not None:
            fields["before"] = report.begun.isoformat()
        plan = plan_part(report, fields, removal.title, quiet=removal.quiet, forgets=forgets)
        request.permit("models", EVERYTHING)
        response = self._page(request, view, said=said, plan=plan, status=status)
        request.action = action
        return response

    def _shown_anew(
        self, request: Request, removal: _Removal, form: MultiDict[str, str]
    ) -> Response:
        """Say that nothing was removed, and show what would go by now."""
        said = message(_CHANGED, bad=True)
        return self._planned(request, removal, _view_of(form), said=said, status=409)

    # What is done

    def _act(self, request: Request) -> Response:
        kind = request.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            raise UnsupportedMediaType(f"not a form: {_FORM} is")
        body = request.body().decode("utf-8", "replace")
        form = MultiDict(parse_qsl(body, keep_blank_values=True))
        asked = [act for act in self._acts if act in form]
        if len(asked) != 1:
            raise BadRequest("the form does not say what to do")
        return self._acts[asked[0]](request, form)

    def _delete(self, request: Request, form: MultiDict[str, str]) -> Response:
        names = [form["delete"]] if form["delete"] else form.getlist("model")
        if not names:
            raise BadRequest("no model is selected")
        for name in names:
            request.permit_model("delete", name)
        if len(names) > 1:
            request.model_name = None
        view = _view_of(form)
        if not self._cache.retention:
            sure = set(form.getlist("sure"))
            found = self._as_they_are(names)
            if not sure.issuperset(found.values()):
                main = confirmation(names, found, view.query(), changed=bool(sure))
                return Response(_framed(main, socket.gethostname()), content_type=_HTML)
        done: list[str] = []
        problems: list[HTTPException] = []
        for name in names:
            try:
                self._unlink(name)
            except HTTPException as problem:
                problem.description = f"{name}: {problem.description}"
                problems.append(problem)
            else:
                done.append(name)
        if done:
            self._clean_up()
        if not problems:
            return self._see_undo(request, done, view)
        if not done and len(problems) == 1:
            raise problems[0]
        failure = ". ".join(str(problem.description) for problem in problems[:_MOST_PROBLEMS])
        if len(problems) > _MOST_PROBLEMS:
            failure += f". And {len(problems) - _MOST_PROBLEMS:,} more"
        said = undo_part(self._deletes_of(request, done), len(done), view.query(), f"{failure}.")
        request.permit("models", EVERYTHING)
        return self._page(request, view, said=said, status=problems[0].code or 500)

    def _as_they_are(self, names: Sequence[str]) -> dict[str, str]:
        """
        Describe the models that a delete of *names* would remove.

        Returns:
            For each name a text, which is another one if it is another model by then. There is none
            where no model is, or a protected one.
        """
        full = {name: str(Name.parse(name)) for name in names}
        with refused():
            models = self._cache.models()
        listed = {model.name.lower(): model for model in models}
        exact = {model.name: model for model in models}
        found: dict[str, str] = {}
        unlisted = []
        for name, key in full.items():
            model = exact.get(key) or listed.get(key.lower())
            if model is None:
                unlisted.append(name)
            elif not model.protected:
                found[name] = f"{model.digest} {key}"
        if unlisted:  # one whose manifest cannot be read can be deleted, too
            with refused():
                unreadable = {name.lower() for name in self._cache.space().unreadable}
            found |= {
                name: f"unreadable {full[name]}"
                for name in unlisted
                if full[name].lower() in unreadable
            }
        return found

    def _sum(self, request: Request, form: MultiDict[str, str]) -> Response:
        names = form.getlist("model")
        request.permit("models", EVERYTHING)
        with refused():
            said = sum_part(len(names), self._cache.usage(names))
        said += Markup('<p><a href="./?{}">Back to the page</a></p>').format(_view_of(form).query())
        return Response(_framed(said, socket.gethostname()), content_type=_HTML)

    def _see_undo(self, request: Request, done: Sequence[str], view: View) -> Response:
        undo = self._deletes_of(request, done) if len(done) <= _MOST_UNDOS else []
        if undo:
            return _see(view, [("undo", model.id) for model in undo])
        return _see(view, [("deleted", str(len(done)))])

    def _deletes_of(self, request: Request, names: Sequence[str]) -> list[DeletedModel]:
        """Find in the trash the latest deletes of *names*, if the client may look there."""
        if not _may(request, "deleted"):
            return []
        latest: dict[str, DeletedModel] = {}
        with refused():
            for deleted in self._cache.deleted():
                latest.setdefault(deleted.name.lower(), deleted)
        keys = [str(Name.parse(name)).lower() for name in names]
        return [latest[key] for key in keys if key in latest]

    def _restore(self, request: Request, form: MultiDict[str, str]) -> Response:
        given = [form["restore"]] if form["restore"] else form.getlist("deleted")
        wanted = [self._one_delete(request, "restore", delete) for delete in given]
        if not wanted:
            raise BadRequest("no model is selected")
        if len(wanted) > 1:
            request.model_name = None
        for restored in self._cache.restore_each(wanted):
            if isinstance(restored, RegistryError):
                with refused():
                    raise restored
        return _see(_view_of(form), [("restored", str(len(wanted)))])

    def _one_delete(self, request: Request, action: str, text: str) -> tuple[str, str]:
        """Read which delete is meant, its id and the name; make sure that *action* is allowed."""
        entry, _, name = text.partition(" ")
        request.permit_model(action, name)
        if not entry:
            raise BadRequest("the form does not say which delete")
        return name, entry

    def _forget(self, request: Request, form: MultiDict[str, str]) -> Response:
        removal = self._forgetting(request, form["forget"], quiet="quiet" in form)
        if _is_as_shown(removal.run, form):
            return _see_report(_report_of(removal.run))
        return self._shown_anew(request, removal, form)

    def _prune(self, request: Request, form: MultiDict[str, str]) -> Response:
        removal = self._pruning(request, form["prune"], quiet="quiet" in form)
        run = partial(removal.run, before=read_time("before", form.get("before", "")))
        with ExitStack() as held:
            held.callback(claim(self._cache))
            if _is_as_shown(run, form):
                if "application/x-ndjson" in request.environ.get("HTTP_ACCEPT", ""):
                    release = held.pop_all().close
                    return stream_prune(lambda progress: run(progress=progress), release)
                return _see_report(_report_of(run))
        return self._shown_anew(request, removal, form)


def _kind(what: str) -> dict[str, Any]:
    """Tell what a prune of this kind is given."""
    if what == "due":
        return {}
    if what == "trash":
        return {"age": _JUST_NOW, "deleted_only": True}
    raise BadRequest("the form does not say what to prune")


def _report_of(run: partial[PruneReport], **options: Any) -> PruneReport:
    with blocked(), refused():
        return run(**options)


def _digest(report: PruneReport) -> str:
    """Make a digest of what goes by *report*: all that it names, and how much it does not."""
    goes = [[str(report.models), str(report.blobs), str(report.left_out)]]
    goes += sorted(
        # Each delete has a time of its own. That of a file changes with its links.
        [item.model, item.when.isoformat()] if item.model else ["", item.file or ""]
        for item in report.items
        if not item.held
    )
    return hashlib.sha256(json.dumps(goes).encode()).hexdigest()


def _is_as_shown(run: partial[PruneReport], form: Mapping[str, str]) -> bool:
    """Tell whether what *run* would take is what the form was shown with."""
    return _digest(_report_of(run, dry_run=True)) == form.get("shown")


def _may(request: Request, action: str) -> bool:
    """Ask whether a part may be shown. The log has what the request is for, and not this."""
    asked = request.action
    try:
        request.permit(action, EVERYTHING)
    except HTTPException:
        return False
    finally:
        request.action = asked
    return True


def _query(request: Request) -> MultiDict[str, str]:
    text = request.environ.get("QUERY_STRING", "")
    return MultiDict(parse_qsl(text, keep_blank_values=True))


def _number(query: Mapping[str, str], key: str) -> int:
    text = query.get(key, "")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _view_of(form: Mapping[str, str]) -> View:
    return View(dict(parse_qsl(form.get("view", ""))))


def _see(view: View, more: Sequence[tuple[str, str]]) -> Response:
    """Send the browser on to the page, which says what was done."""
    query = "&".join(filter(None, [view.query(), urlencode(more)]))
    return Response(status=303, headers={"Location": f"./?{query}"})


def _see_report(report: PruneReport) -> Response:
    numbers = {
        "models": report.models,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "held": report.held_bytes,
        "failed": report.failed,
    }
    return _see(View({}), [(key, str(number)) for key, number in numbers.items()])


def _to_the_page(folder: str, request: Request) -> Response:
    del request
    return Response(status=308, headers={"Location": f"{folder}/"})


def _send(asset: Asset, request: Request) -> Response:
    del request
    response = Response(asset.data, content_type=asset.content_type)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _framed(main: Markup, host: str = "") -> str:
    names = {kind: asset.name for kind, asset in assets().items()}
    title = f"Models on {host}" if host else "Models"
    return str(frame().format(title=title, main=main, **names))
