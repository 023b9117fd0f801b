"""A store in a bucket of an object store."""
