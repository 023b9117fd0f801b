import os

from flask import Flask, redirect, request
from flask_login import LoginManager, UserMixin, current_user
from werkzeug.exceptions import HTTPException

from registry_wsgi import LocalRegistry, open_cache


class User(UserMixin):
    def __init__(self, name, is_admin):
        self.id = name
        self.is_admin = is_admin


USERS = {user.id: user for user in (User("ada", True), User("bob", False))}


def create_app():
    app = Flask(__name__)
    app.secret_key = os.environ["SECRET_KEY"]
    login_manager = LoginManager(app)
    login_manager.user_loader(USERS.get)

    @app.get("/login")  # the app's own, which ends with login_user() and a redirect to "next"
    def login():
        return "Log in\n"

    def authorize(environ, action, name):
        with app.request_context(environ):
            if not current_user.is_authenticated:
                raise HTTPException(response=redirect(f"/login?next={request.path}"))
            return current_user.is_admin

    app.wsgi_app = LocalRegistry(app.wsgi_app, open_cache(), page="/registry/", authorize=authorize)
    return app
