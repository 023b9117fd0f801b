"""
Try the library without writing a line: ``python -m registry_wsgi`` serves models on loopback.

It serves the store that is there, or a small sample if there is none, and prints how to delete a
model and how to bring it back. ``list``, ``deleted`` and ``restore NAME`` do what they say.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Sequence

from werkzeug.serving import make_server

from . import DiskStore, LocalRegistry, ModelCache, RegistryError, open_cache
from .cache import DeletedModel, Model
from .config import prune_after_delete
from .names import Name
from .sample import make_sample


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command *argv*, by default that of the process, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m registry_wsgi")
    parser.description = "Delete models and bring them back, in OLLAMA_MODELS or ~/.ollama/models."
    command = parser.add_argument("command", nargs="?", default="serve")
    command.choices = ("serve", "list", "deleted", "restore")
    command.help = "what to do; serve, the default, takes a sample if there are no models"
    parser.add_argument("name", nargs="?", help="the model to restore")
    port = parser.add_argument("--port", type=int, default=8434)
    port.help = "the port to serve on; 0: any that is free; default: 8434"
    arguments = parser.parse_args(argv)
    if (arguments.command == "restore") != (arguments.name is not None):
        parser.error("restore takes the name of a model, the other commands take none")
    if arguments.port not in range(65_536):
        parser.error("the port is a number from 0 to 65535")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold any bytes
    try:
        if arguments.command == "serve":
            _serve(arguments.port)
        elif arguments.command == "restore":
            print("restored", open_cache().restore(arguments.name))
        else:
            cache = open_cache()
            for model in cache.models() if arguments.command == "list" else cache.deleted():
                print(_line(model))
        print(end="", flush=True)
        return 0
    except KeyboardInterrupt:
        return 130
    except (RegistryError, OSError) as error:
        if not isinstance(error, BrokenPipeError):
            print(f"registry_wsgi: {error}", file=sys.stderr)
        if isinstance(error, OSError) and sys.stdout is not None:
            # What is not written yet would fail once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _serve(port: int) -> None:
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # that of create_server() is long
        raise RegistryError(f"port {port}: {reason} (0: any that is free)") from error
    with listener:
        cache = _open_cache_or_sample()
        app = LocalRegistry(None, cache, prune=prune_after_delete())
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # app logs each request itself
        with make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno()) as server:
            _explain(cache, f"http://127.0.0.1:{server.port}")
            server.serve_forever()


def _open_cache_or_sample() -> ModelCache:
    default = os.path.expanduser("~/.ollama/models")
    if os.environ.get("OLLAMA_MODELS") or os.path.isdir(default):
        return open_cache()
    make_sample(location := tempfile.mkdtemp(prefix="registry-wsgi-"))
    print(f"No models in {default}, so this is a sample. It stays until you remove it.")
    return open_cache(location)


def _explain(cache: ModelCache, url: str) -> None:
    root = cache.store.root if isinstance(cache.store, DiskStore) else "memory:"
    models = cache.models()
    print(f"Models in {root}: {len(models) or 'none'}")
    for model in models[:20]:
        print(f"  {_line(model)}")
    if models:
        name = Name.parse(models[0].name).short
        print("Delete one, in another terminal:")
        print(f"""  curl -i -X DELETE {url}/api/delete -d '{{"model": "{name}"}}'""")
        if cache.retention:
            python = f"OLLAMA_MODELS={shlex.quote(root)} {shlex.quote(sys.executable)}"
            print(f"and bring it back:\n  {python} -m registry_wsgi restore {name}")
        else:
            print("It cannot be brought back: REGISTRY_WSGI_RETENTION is 0.")
    print(f"Serving {url} until Ctrl-C.", flush=True)


def _line(model: Model | DeletedModel) -> str:
    line = f"{Name.parse(model.name).short:<28} {model.size:>15,} bytes"
    if isinstance(model, DeletedModel):
        until = f"can be restored until {model.expires.astimezone():%Y-%m-%d %H:%M}"
        line += f", {until if model.restorable else 'cannot be restored'}"
    return line


if __name__ == "__main__":
    sys.exit(main())
