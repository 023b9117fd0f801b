"""Sphinx configuration: everything builds without a network."""

from __future__ import annotations

import re
import sys

import registry_wsgi

project = "registry-wsgi"
author = "registry-wsgi authors"
copyright = "2026, registry-wsgi authors"
release = version = registry_wsgi.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "extra"]
default_role = "py:obj"  # single backquotes, as in the docstrings, name an object and are checked
smartquotes_action = "qe"  # quotes and ellipses: two hyphens are an option
html_theme = "furo"
html_extra_path = ["extra"]  # llms.txt, for programs that read documentation
html_title = f"{project} {release}"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # an attribute named `bytes` must not become what `bytes` refers to
doctest_test_doctest_blocks = "default"

# Names that others document. No inventory is fetched for them, so that the build needs no network;
# of our own names every one has to resolve.
nitpicky = True
_modules = "|".join(
    map(re.escape, sorted({*sys.stdlib_module_names, "_typeshed", "prometheus_client", "werkzeug"}))
)
nitpick_ignore_regex = [
    (r"py:.*", rf"(?:{_modules})(?:\..*)?"),
    # Where one name of a signature is there for type checkers only, autodoc shows all as written.
    (r"py:class", r"(?:Authorize|StartResponse|WSGIApplication|WSGIEnvironment)"),
]
