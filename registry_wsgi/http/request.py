"""A request that is handled here: what its body asks for, and whether that is allowed."""

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

__all__ = ["EVERYTHING", "Endpoint", "Request"]

#: In the place of a name, for actions that are about all models.
EVERYTHING = "*"

# The actions that ``authorize`` is asked about, as an error calls them.
_IN_WORDS = {
    "delete": "delete this model",
    "deleted": "list what was deleted",
    "evict": "let models go",
    "forget": "remove this model for good",
    "history": "list the last changes",
    "models": "list the models",
    "prune": "prune",
    "prune_all": "prune models that nobody deleted",
    "restore": "restore this model",
    "space": "look at the space that is taken",
}


@dataclass(slots=True)
class Request:
    """
    One request.

    Attributes:
        environ: The WSGI environment.
        authorize: Says who may do what. None: everyone may do anything.
        max_content_length: The largest body that is read, in bytes.
        action: The action that ``authorize`` is asked about; None until it is known.
        model_name: The full name of the model that the request is about; None until it is known,
            and if the request is about several models or none.
    """

    environ: WSGIEnvironment
    authorize: Authorize | None
    max_content_length: int
    action: str | None = None
    model_name: str | None = None

    def body(self) -> bytes:
        """Read the body; this can be done once (see `registry_wsgi.http.body.read_body`)."""
        return read_body(self.environ, self.max_content_length)

    def model(self, action: str) -> str:
        """
        Read the name of the model in the body, and make sure that *action* on it is allowed.

        Raises:
            BadRequest: There is no valid name.
            HTTPException: The action is not allowed.
        """
        self.action = action
        model = read_model(self.body())
        self.permit_model(action, model)
        return model

    def permit_model(self, action: str, model: str) -> None:
        """
        Make sure that *model* is a valid name, and that *action* on it is allowed.

        Raises:
            BadRequest: It is no valid name.
            HTTPException: The action is not allowed.
        """
        self.action = action
        try:
            name = Name.parse(model)
        except InvalidNameError as error:
            raise BadRequest(str(error)) from error
        self.model_name = str(name)
        self.permit(action, str(name))

    def permit(self, action: str, name: str) -> None:
        """
        Make sure that *action* on the model *name* is allowed.

        Raises:
            HTTPException: The action is not allowed.
        """
        self.action = action
        if self.authorize is None:
            return
        try:
            allowed = self.authorize(self.environ, action, name)
        except HTTPException as error:
            if error.get_response(self.environ).status_code < 300:
                raise RuntimeError(f"authorize raised {error!r}, which refuses nothing") from error
            raise
        # Only True itself allows: if `authorize` is a coroutine function, it returns a coroutine,
        # which counts as true whatever its result would be.
        if allowed is not True:
            raise Forbidden(f"not allowed to {_IN_WORDS[action]}")


#: Answers a request, or raises an HTTPException.
Endpoint = Callable[[Request], Response]
