import os

from flask import Flask
from flask_login import LoginManager, UserMixin, current_user

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

    @app.get("/")
    def index():
        return "Hello from the app\n"

    def authorize(environ, action, name):
        with app.request_context(environ):
            return current_user.is_authenticated and current_user.is_admin

    app.wsgi_app = LocalRegistry(app.wsgi_app, open_cache(), authorize=authorize)
    return app
