#!/usr/bin/env bash
# Expected: with `timeout=0.5` a request ends after half a second, with a response or an error.
# Happens:  the read timeout restarts with each piece that arrives. If a server sends one byte every
#           0.2 s, httpx waits until the server ends the response, here after two seconds.
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
import socket
import sys
import threading
import time

import httpx

server = socket.create_server(("127.0.0.1", 0))


def answer() -> None:
    """Ten bytes in two seconds, and no more."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            time.sleep(0.2)
            connection.sendall(b".")


threading.Thread(target=answer, daemon=True).start()
url = f"http://127.0.0.1:{server.getsockname()[1]}/"

print(f"httpx {httpx.__version__}")
start = time.monotonic()
try:
    outcome = httpx.get(url, timeout=0.5, trust_env=False).text
except httpx.TimeoutException as error:
    outcome = type(error).__name__
took = time.monotonic() - start
print(f"timeout=0.5: {outcome!r} after {took:.1f} s")

if outcome != "." * 10 or took < 1.5:
    sys.exit("changed: the read timeout does not start again with each piece any more")
EOF
