import os

from django.core.wsgi import get_wsgi_application

from registry_wsgi.django import wrap

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = wrap(get_wsgi_application())
