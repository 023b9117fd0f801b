import os
from urllib.parse import quote

import httpx
from werkzeug.wrappers import Request, Response

from registry_wsgi import LocalRegistry, open_cache

OLLAMA = os.environ.get("OLLAMA_UPSTREAM", "http://127.0.0.1:11434")

# These are about one connection, and not passed on.
HOPS = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
client = httpx.Client(timeout=httpx.Timeout(10, read=None), follow_redirects=False)


def passed(headers):
    return [(name, value) for name, value in headers.items() if name.lower() not in HOPS]


@Request.application
def ollama(request):
    if request.method not in ("GET", "HEAD", "POST"):
        return Response("not passed on\n", 405, {"Allow": "GET, HEAD, POST"})
    path = quote(request.environ["PATH_INFO"], encoding="latin-1")
    url = httpx.URL(OLLAMA + path, query=request.query_string or None)
    body = iter(lambda: request.stream.read(65_536), b"") if request.method == "POST" else None
    asked = client.build_request(request.method, url, headers=passed(request.headers), content=body)
    answer = client.send(asked, stream=True)
    response = Response(answer.iter_raw(), answer.status_code, passed(answer.headers))
    response.call_on_close(answer.close)
    return response


application = LocalRegistry(ollama, open_cache())
