REGISTRY_WSGI = {
    "LOCATION": "/srv/models",
    "RETENTION": "14d",
    "MAINTENANCE": True,
    "TRUSTED_HOSTS": ["models.example"],
}
