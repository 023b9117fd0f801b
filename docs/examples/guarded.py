from registry_wsgi import LocalRegistry, open_cache
from registry_wsgi.http.authorization import all_of, bearer_token, trusted_hosts


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello from the app\n"]


authorize = all_of(trusted_hosts("localhost", "127.0.0.1"), bearer_token(file="token"))
application = LocalRegistry(app, open_cache(), authorize=authorize)
