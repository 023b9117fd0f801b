"""
The policy: what a delete means, what a prune may remove; it knows no storage.

`Cache` is the protocol that the middleware asks for. `registry_wsgi.ModelCache` follows it, over
any `registry_wsgi.stores.base.Store`.
"""

from .protocol import Cache

__all__ = ["Cache"]
