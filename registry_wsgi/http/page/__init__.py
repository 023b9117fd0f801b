"""
The storage page: what takes the space, and what can be done about it, in a browser.

It is there with ``LocalRegistry(…, page="/registry/")``, with ``REGISTRY_WSGI_PAGE=/registry/``
under `registry_wsgi.create_app`, and with ``registry-wsgi serve --page``. Each URL in it is
relative, and all that it needs lies below its path. So it works under any ``SCRIPT_NAME``, and
behind any proxy that passes this path on.

Who may use it:

- ``authorize`` is asked about each action, as for `registry_wsgi.http.maintenance`: ``models`` for
  the page itself, ``space``, ``deleted`` and ``history`` for these parts of it, which are left out
  if that is refused; ``delete``, ``restore``, ``forget`` and ``prune``. ``prune_all`` never is.
- Without ``authorize`` the page answers only under ``localhost``, ``127.0.0.1`` and ``[::1]``. So
  no page in a browser reaches it under a name of its own (DNS rebinding).
- A form is taken only if the browser says that it is from the same origin, by ``Sec-Fetch-Site``
  or ``Origin``. A request that has neither is refused, and so is any page of another site:
  ``origins`` does not count here.
- No other site can show the page in a frame, and the page runs no script but its own
  (``Content-Security-Policy``).
- A token is never in a URL. The script of the page asks for it, and keeps it for as long as the tab
  is open.
"""
