"""A request that is handled here: its body, read and understood, and whether it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException
from werkzeug.wrappers import Response

from ..errors import InvalidNameError
from ..names import Name
from .authorization import Authorize
from .body import read_body, read_model

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Endpoint", "Request"]

# What may be allowed or not.
_IN_WORDS = {
    "delete": "delete this model",
    "deleted": "list what was deleted",
    "prune": "prune",
    "restore": "restore this model",
}


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request.

    Attributes:
        environ: What the server tells of it.
        authorize: Who may do what; None: everyone anything.
        max_content_length: How many bytes its body may have.
    """

    environ: WSGIEnvironment
    authorize: Authorize | None
    max_content_length: int

    def body(self) -> bytes:
        """Read its body, once (see `registry_wsgi.http.body.read_body`)."""
        return read_body(self.environ, self.max_content_length)

    def model(self, action: str) -> str:
        """
        Read the name of the model that it is about, once it is sure that *action* is allowed.

        Raises:
            BadRequest: There is no valid name.
            HTTPException: It is not allowed.
        """
        model = read_model(self.body())
        try:
            name = Name.parse(model)
        except InvalidNameError as error:
            raise BadRequest(str(error)) from error
        self.permit(action, str(name))
        return model

    def permit(self, action: str, name: str) -> None:
        """
        Go on only if *action* is allowed.

        Raises:
            HTTPException: It is not.
        """
        if self.authorize is None:
            return
        try:
            allowed = self.authorize(self.environ, action, name)
        except HTTPException as error:
            if error.get_response(self.environ).status_code < 300:
                raise RuntimeError(f"authorize raised {error!r}, which refuses nothing") from error
            raise
        # Nothing but True lets in: a coroutine, say, is true whatever it would say.
        if allowed is not True:
            raise Forbidden(f"not allowed to {_IN_WORDS[action]}")


#: What answers a request.
Endpoint = Callable[[Request], Response]
