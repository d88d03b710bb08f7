#!/usr/bin/env bash
# Expected: a call of the client does not change the program's logging.
# Happens:  the first call uses `logging.debug(...)`, which adds a handler to the root logger. A
#           later `logging.basicConfig(level=INFO)` then does nothing, and the program's INFO lines
#           are lost.
# Version:  aliyun-fc2 2.5.2
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'aliyun-fc2==2.5.2' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$python" -I - <<'EOF'
import io
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import fc2


class Functions(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Functions)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = fc2.Client(
    endpoint=f"http://127.0.0.1:{server.server_port}",
    accessKeyID="made-up-id",
    accessKeySecret="made-up-secret",
)

root = logging.getLogger()
before = len(root.handlers)
client.invoke_function("shop", "orders")
after = len(root.handlers)
lines = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=lines)
logging.getLogger("shop").info("open")

print(f"aliyun-fc2 {version('aliyun-fc2')}")
print(f"handlers of the root logger: {before} before the first call, {after} after it")
print(f"an INFO line after logging.basicConfig(level=INFO): {lines.getvalue() or 'lost'}")

if (before, after, lines.getvalue()) != (0, 1, ""):
    sys.exit("changed: a call leaves the program's logging alone")
EOF
