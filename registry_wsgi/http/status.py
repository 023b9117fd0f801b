"""Recording the status that the client gets, on the way of the answer to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse

__all__ = ["StatusRecorder", "WatchedBody"]


class StatusRecorder:
    """
    A ``start_response`` that calls that of the server and remembers the status.

    Whatever an answer passes (status, headers, ``exc_info``) reaches the server as it is, and the
    ``write()`` of the server goes back to the answer.

    Args:
        start_response: That of the server.

    Attributes:
        status: The last status that the server took; 200 if it took none. A status that the server
            refused, by raising an exception, does not count: the client never sees it.
        started: Whether the server took any status.
    """

    __slots__ = ("_start_response", "started", "status")

    def __init__(self, start_response: StartResponse) -> None:
        self._start_response = start_response
        self.status = 200
        self.started = False

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        # Not passed on as None: a server may treat that otherwise than an absent one.
        more = () if exc_info is None else (exc_info,)
        write = self._start_response(status, headers, *more)
        self.status, self.started = int(status[:3]), True
        return write


class WatchedBody:
    """
    The body of an answer that may still change its status, or fail, while the server reads it.

    Args:
        body: The body.
        ended: Called once, when the body has been read to its end, has failed, or is closed: with
            the exception if it has failed, else with None.
    """

    def __init__(
        self, body: Iterable[bytes], ended: Callable[[BaseException | None], object]
    ) -> None:
        self._body = body
        self._chunks = iter(body)
        self._ended: Callable[[BaseException | None], object] | None = ended

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            self._end(None)
            raise
        except Exception as error:
            self._end(error)
            raise

    def close(self) -> None:
        """Close the body, as a server does after the last chunk it wants."""
        try:
            close: Any = getattr(self._body, "close", None)
            if close is not None:
                close()
        except Exception as error:
            self._end(error)
            raise
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)
