LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"registry_wsgi": {"handlers": ["console"], "level": "INFO"}},
}
