from flask import Flask

from registry_wsgi import LocalRegistry, open_cache

app = Flask(__name__)
app.wsgi_app = LocalRegistry(app.wsgi_app, open_cache())
