#!/usr/bin/env bash
# Expected: a 502 raises FcError for every request, as soon as the server answers.
# Happens:  a POST (`invoke_function`) raises it. A GET (`get_function`) is sent six times over half
#           a minute, and raises RetryError of requests. No argument of the client shows or changes
#           this: the number, the pause and the statuses are globals of the module.
# Version:  aliyun-fc2 2.5.2 (requests 2.34.2, urllib3 2.8.0)
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'aliyun-fc2==2.5.2' 'requests==2.34.2' 'urllib3==2.8.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$python" -I - <<'EOF'
import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import fc2
import fc2.client

seen: list[str] = []


class BadGateway(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        seen.append(self.command)
        self.send_response(502)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), BadGateway)
threading.Thread(target=server.serve_forever, daemon=True).start()
logging.disable()
client = fc2.Client(
    endpoint=f"http://127.0.0.1:{server.server_port}",
    accessKeyID="made-up-id",
    accessKeySecret="made-up-secret",
)


def outcome(call: Callable[[str, str], object]) -> tuple[str, list[str]]:
    seen.clear()
    try:
        call("shop", "orders")
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}", list(seen)
    return "no error", list(seen)


print(f"aliyun-fc2 {version('aliyun-fc2')}, pause between tries: {fc2.client.backoff_factor} s and doubled")
fc2.client.backoff_factor = 0  # The pauses alone would be half a minute.
invoke, get = outcome(client.invoke_function), outcome(client.get_function)
print(f"invoke_function, answered 502: {len(invoke[1])} request(s), {invoke[0]}")
print(f"get_function, answered 502:    {len(get[1])} request(s), {get[0]}")

if invoke != ("fc2.fc_exceptions.FcError", ["POST"]):
    sys.exit("changed: a POST that is answered 502 is not one request and an FcError")
if get != ("requests.exceptions.RetryError", ["GET"] * 6):
    sys.exit("changed: a GET that is answered 502 is not six requests and a RetryError")
EOF
