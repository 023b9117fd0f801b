"""The metrics of several workers, served by gunicorn."""

from __future__ import annotations

import os
from pathlib import Path

from kit.requirements import require
from kit.servers import EXAMPLES, Serve, wait_for
from kit.trees import Tree


def test_the_workers_count_together(serve: Serve, tree: Tree, tmp_path: Path) -> None:
    """Whichever of them is asked."""
    require("prometheus_client")
    counts = tmp_path / "counts"
    counts.mkdir()
    tree.add("smol", b"weights")
    environment = {
        "OLLAMA_MODELS": str(tree.root),
        "PROMETHEUS_MULTIPROC_DIR": str(counts),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *_path()]),
    }
    server = serve("gunicorn-gthread", "with_metrics:application", environment)
    body = b'{"model": "absent"}'
    sent = 0

    def both_have_answered() -> bool:
        nonlocal sent
        sent += 1
        assert server.request("DELETE", "/api/delete", body).status == 404
        return len(list(counts.glob("counter_*.db"))) == 2

    wait_for(both_have_answered, "both workers to answer")
    assert server.request("DELETE", "/api/delete", b'{"model": "smol"}').status == 200

    series = 'registry_wsgi_requests_total{method="DELETE",path="/api/delete",status="404"}'
    for _ in range(10):
        answer = server.request("GET", "/metrics/")
        assert answer.status == 200
        lines = answer.body.decode().splitlines()
        assert f"{series} {sent}.0" in lines
        assert "registry_wsgi_models_deleted_total 1.0" in lines


def _path() -> list[str]:
    """Where the package is that the tests import."""
    import registry_wsgi

    return [str(Path(registry_wsgi.__file__).parents[1])]
