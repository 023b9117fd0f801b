"""What Django looks for in an app of ``INSTALLED_APPS``."""
