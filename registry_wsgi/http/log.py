"""The log record of a request that was handled here."""

from __future__ import annotations

import logging
from contextlib import suppress

from werkzeug.wsgi import get_content_length

from ..errors import escape
from .request import Request

__all__ = ["log_request", "text_of"]


def log_request(
    logger: logging.Logger,
    request: Request,
    status: int,
    error: str | None,
    cause: BaseException | None,
) -> None:
    """
    Log one record: ERROR for a 5xx, WARNING for a 4xx, else INFO.

    If the logger fails, that is noted on stderr as logging does, and no exception is raised: the
    model may be deleted already, so the answer to the client has to stand.

    Args:
        logger: Takes the record.
        request: The request, with its action and model as far as they are known.
        status: The status that the client got.
        error: What was wrong; None: nothing.
        cause: The exception behind *error*, if the fault was not the client's. With it the level is
            ERROR whatever the status, as a stream may fail after its 200.
    """
    environ = request.environ
    level = logging.WARNING if status >= 400 else logging.INFO
    if status >= 500 or cause is not None:
        level = logging.ERROR
    fields = {
        "error": error,
        "status": status,
        "method": environ["REQUEST_METHOD"],
        "path": environ.get("PATH_INFO", ""),
        "content_length": get_content_length(environ),
        "remote": environ.get("REMOTE_ADDR"),
        "proto": environ.get("SERVER_PROTOCOL"),
        "query": environ.get("QUERY_STRING", ""),
        "model": request.model_name,
        "action": request.action,
        "user": environ.get("REMOTE_USER"),
    }
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = escape(value)
    message = "%(method)s %(path)s %(status)d" + (" %(error)s" if error else "")
    record = (logger.name, level, __file__, 0, message, (fields,), None)
    try:
        factory = logging.getLogRecordFactory()
        # An attribute that the record factory of the application sets cannot be set once more.
        taken = () if factory is logging.LogRecord else vars(factory(*record))
        extra = {key: value for key, value in fields.items() if key not in taken}
        logger.log(level, message, fields, exc_info=cause, extra=extra)
    except Exception:  # noqa: BLE001 - see the docstring
        with suppress(Exception):
            logging.Handler().handleError(logging.LogRecord(*record))


def text_of(error: BaseException | None) -> str | None:
    """Write *error* as a text: its message, or its class if it cannot even be printed."""
    try:
        return None if error is None else str(error)
    except Exception:  # noqa: BLE001 - the exception of a stranger may do anything
        return type(error).__name__
