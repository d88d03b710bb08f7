#!/usr/bin/env bash
# Expected: a request costs about the same CPU time, however many connections a pool has open.
# Happens:  for each request a pool looks at all of its connections, twice, under one lock. With 64
#           threads, a request over one pool of 64 connections takes a multiple of the CPU time of
#           the same request over 64 pools of one connection each (seen: 4.6 to 5.9 times).
# Version:  httpcore 1.0.9 (httpx 0.28.1 uses its pool)
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'httpcore==1.0.9' 'h11==0.16.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

cat > "$folder/server.py" <<'EOF'
"""Answers every request after 20 ms, so that the connections are in use at the same time."""
import asyncio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Conversation(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            asyncio.get_running_loop().call_later(0.02, self.transport.write, ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(
        Conversation, "127.0.0.1", 0, backlog=256
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
EOF

"$python" -I - "$folder/server.py" <<'EOF'
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import local

import httpcore

THREADS, REQUESTS, ROUNDS = 64, 2560, 5
server = subprocess.Popen([sys.executable, "-I", sys.argv[1]], stdout=subprocess.PIPE, text=True)
url = f"http://127.0.0.1:{server.stdout.readline().strip()}/"


def cpu_ms(threads: ThreadPoolExecutor, ask) -> float:
    """The CPU time of a request, in milliseconds, when all connections are open."""
    list(threads.map(ask, range(4 * THREADS)))
    begun = time.process_time()
    if set(threads.map(ask, range(REQUESTS))) != {200}:
        sys.exit("changed: a request was not answered with 200")
    return 1000 * (time.process_time() - begun) / REQUESTS


shared = httpcore.ConnectionPool(max_connections=THREADS)
own = local()


def ask_shared(_: int) -> int:
    return shared.request("GET", url).status


def ask_own(_: int) -> int:
    if not hasattr(own, "pool"):
        own.pool = httpcore.ConnectionPool(max_connections=1)
    return own.pool.request("GET", url).status


with ThreadPoolExecutor(THREADS) as threads:
    rounds = [(cpu_ms(threads, ask_shared), cpu_ms(threads, ask_own)) for _ in range(ROUNDS)]
server.kill()
ratio = median(one / many for one, many in rounds)
print(f"httpcore {httpcore.__version__}")
print(f"CPU time of a request, one pool of {THREADS} / {THREADS} pools of one: {ratio:.1f}")

if ratio < 1.3:
    sys.exit("changed: a pool of many connections takes hardly more CPU time than many of one")
EOF
