import hmac
import os

from registry_wsgi import LocalRegistry, open_cache

KEY = os.environ["DELETE_KEY"].encode()


def authorize(environ, action, name):
    given = environ.get("HTTP_X_KEY", "").encode("latin-1")
    return hmac.compare_digest(given, KEY)


application = LocalRegistry(None, open_cache(), authorize=authorize)
