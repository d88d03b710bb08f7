#!/usr/bin/env bash
# Expected: a 204 has no body to read, so the connection serves the next request.
# Happens:  a streamed response that is not read closes its connection, even a 204: five requests
#           use five connections. With `read()`, which returns no bytes, they share one.
# Version:  httpx 0.28.1 (httpcore 1.0.9)
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'httpx==0.28.1' 'httpcore==1.0.9' 'h11==0.16.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'EOF'
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

connections: list[object] = []


class NoContent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        connections.append(self.client_address)
        super().setup()

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), NoContent)
threading.Thread(target=server.serve_forever, daemon=True).start()


def used(*, read: bool) -> int:
    """The connections of five requests, one after another."""
    connections.clear()
    with httpx.Client(trust_env=False) as client:
        for _ in range(5):
            with client.stream("GET", f"http://127.0.0.1:{server.server_port}/") as response:
                if read and response.read() != b"":
                    sys.exit("changed: a 204 has a body")
    return len(connections)


unread, read = used(read=False), used(read=True)
print(f"httpx {httpx.__version__}")
print(f"five answers 204, not read: {unread} connections")
print(f"five answers 204, read:     {read} connection(s)")

if (unread, read) != (5, 1):
    sys.exit("changed: whether a 204 is read does not decide about its connection any more")
EOF
