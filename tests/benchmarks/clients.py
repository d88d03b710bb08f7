"""The clients' processes, seen from outside: one that lasts, or one for a single request."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from tests.benchmarks.case import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    ACCOUNT_ID,
    REGION,
    SECURITY_TOKEN,
)

CLIENTS = ("ours", "official_sdk", "limit")

_ROOT = str(Path(__file__).parents[2])
# httpx loads its own command line wherever click is installed; in the layer it is not.
_OPEN = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['click'] = None; "
    "from tests.benchmarks.{} import open_put; "
)
_COLD = _OPEN + "open_put(sys.argv[2])()"
_WARM = (
    _OPEN + "from tests.benchmarks.batches import serve; put = open_put(sys.argv[2]); serve(put)"
)


class Spent(NamedTuple):
    """Seconds of the client's own CPU, user and system, and seconds by the clock."""

    cpu: float
    wall: float


def environment(trust: Path) -> dict[str, str]:
    """All that a client's process inherits: what is documented of a function's environment.

    https://www.alibabacloud.com/help/en/functioncompute/fc/environment-variables
    """
    # Its size matters: requests, under the SDK, goes through all of it for every request, looking
    # for a proxy.
    return {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "ALIBABA_CLOUD_SECURITY_TOKEN": SECURITY_TOKEN,
        "FC_ACCOUNT_ID": ACCOUNT_ID,
        "FC_CUSTOM_LISTEN_PORT": "9000",
        "FC_FUNCTION_HANDLER": "index.handler",
        "FC_FUNCTION_MEMORY_SIZE": "256",
        "FC_FUNCTION_NAME": "encrypt-on-create",
        "FC_FUNCTION_VERSION": "LATEST",
        "FC_FUNC_CODE_PATH": "/code",
        "FC_INSTANCE_ID": "c-benchmark",
        "FC_REGION": REGION,
        "PATH": os.defpath,
        # Here requests looks for a .netrc before every request; there is none.
        "HOME": str(trust.parent),
        # Where ours and the limit, and the SDK, look for authorities.
        "SSL_CERT_FILE": str(trust),
        "REQUESTS_CA_BUNDLE": str(trust),
    }


def _command(program: str, client: str, endpoint: str) -> list[str]:
    return [sys.executable, "-I", "-c", program.format(client), _ROOT, endpoint]


def cold(client: str, endpoint: str, inherited: dict[str, str]) -> Spent:
    """Run an interpreter that imports the client, opens it and sends one request."""
    return ended(_command(_COLD, client, endpoint), inherited).spent


@dataclass(frozen=True)
class Ended:
    """A process from its start, an instant of `time.monotonic`, to its end, and what it printed."""

    spent: Spent
    started: float
    output: str
    log: str


def ended(command: Sequence[str], inherited: dict[str, str]) -> Ended:
    """Run a process; raises RuntimeError with what it logged unless it ends with 0."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=inherited, check=False, capture_output=True, text=True)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"a measured process ended with {done.returncode}: {done.stderr}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Ended(Spent(cpu, wall), start, done.stdout, done.stderr)


@dataclass(frozen=True)
class WarmClient:
    """A client in a process of its own that keeps its connection."""

    orders: IO[str]
    reports: IO[str]

    def batch(self, count: int) -> Spent:
        """Send so many requests, one after the other; seconds are those of one of them."""
        self.orders.write(f"{count}\n")
        self.orders.flush()
        cpu, wall = self.reports.readline().split()
        return Spent(float(cpu) / count, float(wall) / count)


@contextmanager
def warm(client: str, endpoint: str, inherited: dict[str, str]) -> Iterator[WarmClient]:
    """Start a client's process; it ends with the block."""
    with lasting(_command(_WARM, client, endpoint), inherited) as opened:
        yield opened


@contextmanager
def lasting(command: Sequence[str], inherited: dict[str, str]) -> Iterator[WarmClient]:
    """Start a process that serves batches; it ends with the block."""
    with subprocess.Popen(
        command,
        env=inherited,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process with two pipes has none")
        yield WarmClient(process.stdin, process.stdout)


def cpu_of(pid: int) -> float:
    """The seconds that another process has spent so far."""
    # Its clock, as clock_getcpuclockid(3) says, which Python does not have.
    return time.clock_gettime((~pid << 3) | 2)
