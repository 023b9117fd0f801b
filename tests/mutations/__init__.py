"""
Take a protection out of the package, and see a test fail.

    tox -e mutations
    tox -e mutations -- second-mark hold

Each mutation is an entry of one of the ``.toml`` files here: the promise that it takes away, a text
of the package, what to write instead, and the tests that should notice.
"""
