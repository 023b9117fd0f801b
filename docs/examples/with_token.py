import hmac
import os

from registry_wsgi import LocalRegistry, open_cache

EXPECTED = f"Bearer {os.environ['DELETE_TOKEN']}".encode()


def authorize(environ, action, name):
    given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
    return hmac.compare_digest(given, EXPECTED)


application = LocalRegistry(None, open_cache(), authorize=authorize)
