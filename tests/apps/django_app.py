"""A Django app behind the middleware."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from apps.helpers import either, note, wait

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of no use",
    DEBUG_PROPAGATE_EXCEPTIONS=True,  # to the server, where Flask answers by itself
)


class Noted(StreamingHttpResponse):  # type: ignore[misc]  # Django ships no types
    """A response that notes that it was closed."""

    notes = ""

    def close(self) -> None:
        super().close()
        note(self.notes, "closed")


def stream(request: HttpRequest) -> HttpResponse:
    signal = request.GET["signal"]

    def chunks() -> Iterator[bytes]:
        yield b"first "
        yield wait(signal)

    response = Noted(chunks(), content_type="text/plain")
    response.notes = request.GET["notes"]
    return response


def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("raised by the app")


def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type="text/plain")


urlpatterns = [path("stream", stream), path("error", error), path("body", body)]

app = either(get_wsgi_application())
