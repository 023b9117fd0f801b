from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from registry_wsgi import LocalRegistry, open_cache
from registry_wsgi.http.metrics import Metrics

cache = open_cache()
metrics = Metrics(cache=cache)
app = DispatcherMiddleware(NotFound(), {"/metrics": metrics.app})
cache.observer = metrics
application = LocalRegistry(app, cache, observer=metrics)
