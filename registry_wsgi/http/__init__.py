"""The HTTP side: WSGI in, JSON out; it knows no files."""
