from registry_wsgi import LocalRegistry, open_cache


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello from the app\n"]


application = LocalRegistry(app, open_cache())
