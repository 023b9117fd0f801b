import os

from flask import Flask, session

from registry_wsgi import LocalRegistry, open_cache


def create_app():
    app = Flask(__name__)
    app.secret_key = os.environ["SECRET_KEY"]

    @app.get("/")
    def index():
        return "Hello from the app\n"

    def authorize(environ, action, name):
        with app.request_context(environ):
            return session.get("role") == "admin"

    app.wsgi_app = LocalRegistry(app.wsgi_app, open_cache(), authorize=authorize)
    return app
