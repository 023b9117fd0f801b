import os

from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections

from registry_wsgi import LocalRegistry, open_cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")


def authorize(environ, action, name):
    request = WSGIRequest(environ)
    SessionMiddleware(lambda request: None).process_request(request)
    close_old_connections()  # as Django does before each request, and after
    try:
        return get_user(request).has_perm("llm.delete_model")
    finally:
        close_old_connections()


application = LocalRegistry(get_wsgi_application(), open_cache(), authorize=authorize)
