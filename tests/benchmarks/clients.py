"""The clients' processes, seen from outside: one that lasts, or one for a single request."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


def deployed_environment(trust: Path, **variables: str) -> dict[str, str]:
    """The same of a deployed function, which finds authorities in its layer."""
    queue = f"acs:mns:{REGION}:{ACCOUNT_ID}:/queues/dead-letters"
    found = environment(trust) | {"GUARD_DEAD_LETTER_QUEUE": queue, **variables}
    del found["SSL_CERT_FILE"]
    return found


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
class Lasting:
    """A client in a process of its own that keeps its connections, and answers line by line."""

    process: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Hand it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def told(self) -> str:
        """Its next line; empty if it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def batch(self, count: int) -> Spent:
        """Send so many requests, one after the other; seconds are those of one of them."""
        self.tell(f"{count}")
        cpu, wall = self.told().split()
        return Spent(float(cpu) / count, float(wall) / count)


def warm(client: str, endpoint: str, inherited: dict[str, str]) -> AbstractContextManager[Lasting]:
    """Start a client's process; it ends with the block."""
    return lasting(_command(_WARM, client, endpoint), inherited)


@contextmanager
def lasting(
    command: Sequence[str], inherited: dict[str, str], folder: Path | None = None
) -> Iterator[Lasting]:
    """Start a process that lasts until its input ends, with the block."""
    with subprocess.Popen(
        command,
        env=inherited,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Lasting(process)


def cpu_of(pid: int) -> float:
    """The seconds that another process has spent so far."""
    # Its clock, as clock_getcpuclockid(3) says, which Python does not have.
    return time.clock_gettime((~pid << 3) | 2)
