#!/usr/bin/env bash
# Expected: the vendor's client for Function Compute can call a function by its name. Version 3.0
#           has no services; its path for a call is /2023-03-30/functions/NAME/invocations.
# Happens:  `invoke_function` of the newest release requires a service before the name, and uses the
#           path of version 2.0. It accepts an empty service, which leaves an empty segment in the
#           path.
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
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import fc2

paths: list[str] = []


class Functions(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        paths.append(self.path)
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

print(f"aliyun-fc2 {version('aliyun-fc2')}")
try:
    client.invoke_function("orders")
except TypeError as error:
    print(f'invoke_function("orders"):         {error}')
else:
    sys.exit("changed: a function is called without a service")
client.invoke_function("shop", "orders")
client.invoke_function("", "orders")
print(f'invoke_function("shop", "orders"): {paths[0]}')
print(f'invoke_function("", "orders"):     {paths[1]}')

if paths != [
    "/2016-08-15/services/shop/functions/orders/invocations",
    "/2016-08-15/services//functions/orders/invocations",
]:
    sys.exit("changed: the path is not that of Function Compute 2.0 any more")
EOF
