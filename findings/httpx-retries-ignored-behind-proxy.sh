#!/usr/bin/env bash
# Expected: `HTTPTransport(retries=2)` tries to connect three times, with or without a proxy.
# Happens:  with a proxy it tries once: the transport does not pass the number to the proxy pool.
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

import httpx

unserved = socket.socket()
unserved.bind(("127.0.0.1", 0))  # Bound but not listening, so it refuses every connection.
url = f"http://127.0.0.1:{unserved.getsockname()[1]}/"


def attempts(transport: httpx.HTTPTransport) -> int:
    """How often it tries to connect."""
    events: list[str] = []
    with httpx.Client(transport=transport, trust_env=False) as client:
        try:
            client.get(url, extensions={"trace": lambda name, _: events.append(name)})
        except httpx.ConnectError:
            pass
    return events.count("connection.connect_tcp.started")


direct = attempts(httpx.HTTPTransport(retries=2))
behind = attempts(httpx.HTTPTransport(retries=2, proxy=url))

print(f"httpx {httpx.__version__}")
print(f"retries=2, direct:           {direct} attempts")
print(f"retries=2, through a proxy:  {behind} attempt(s)")

if direct != 3:
    sys.exit("changed: without a proxy it is not three attempts")
if behind != 1:
    sys.exit("changed: the retries count with a proxy too")
EOF
