import os

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from werkzeug.exceptions import HTTPException
from werkzeug.utils import redirect

from registry_wsgi import LocalRegistry, open_cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")


def authorize(environ, action, name):
    request = WSGIRequest(environ)
    SessionMiddleware(lambda request: None).process_request(request)
    close_old_connections()  # as Django does before each request, and after
    try:
        user = get_user(request)
        if not user.is_authenticated:
            raise HTTPException(response=redirect(f"{settings.LOGIN_URL}?next={request.path}"))
        return user.has_perm("llm.delete_model")
    finally:
        close_old_connections()


application = LocalRegistry(
    get_wsgi_application(), open_cache(), page="/registry/", authorize=authorize
)
