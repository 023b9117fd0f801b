import os

from django.core.wsgi import get_wsgi_application

from registry_wsgi import LocalRegistry, open_cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = LocalRegistry(get_wsgi_application(), open_cache())
