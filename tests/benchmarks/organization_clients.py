"""Who reads the table buckets of some accounts: the sweep function, or the vendor's client.

Both read every list and every bucket with as many threads and connections. `serve` waits for a line
with accounts and says what that took.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from tests.benchmarks.organization_service import KEY_OF, REGIONS

# Of each region: what the sweep has in eight regions without a watch.
WORKERS = 8

# Takes account ids; returns how many buckets are encrypted.
Read = Callable[[Sequence[str]], int]


def open_ours() -> Read:
    """A share, as the function gets it; its roles are taken anew each time."""
    from encryption_guard.enforcement.handler import shared_members
    from encryption_guard.sweep.shares import Share
    from functions.sweep import index
    from tests.benchmarks.instance import SweepContext

    # Where the function logs.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  open as long as the process is
    index.initialize(SweepContext)

    def read(account_ids: Sequence[str]) -> int:
        shared_members.cache_clear()
        share = Share(tuple(account_ids), datetime.now(timezone.utc))
        result = json.loads(index.handler(share.payload, SweepContext))
        return int(result["totals"]["encrypted"])

    return read


def open_official_sdk(endpoint: str) -> Read:
    """The vendor's clients, one for each account and region, on connections that all share."""
    from alibabacloud_oss_v2.transport.requests_client import RequestsHttpClient

    from tests.benchmarks.official_sdk import open_client
    from tests.benchmarks.official_sdk_sweep import count_encrypted

    threads = WORKERS * len(REGIONS)
    http = RequestsHttpClient(max_connections=threads, block=True)

    @functools.cache
    def client_of(account_id: str, region: str) -> Any:
        return open_client(endpoint, region, f"{KEY_OF}{account_id}", http_client=http)

    regions, pool = ThreadPoolExecutor(len(REGIONS)), ThreadPoolExecutor(threads)

    def read(account_ids: Sequence[str]) -> int:
        return sum(
            regions.map(
                lambda region: sum(
                    count_encrypted(client_of(account_id, region), pool)
                    for account_id in account_ids
                ),
                REGIONS,
            )
        )

    return read


def serve(read: Read) -> None:
    """Read the buckets of the accounts on every line that comes in; say what that took, as JSON."""
    reports = sys.__stdout__
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        encrypted = read(line.split())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(
            json.dumps({"cpu": cpu, "wall": wall, "encrypted": encrypted}),
            file=reports,
            flush=True,
        )


if __name__ == "__main__":
    serve(open_ours() if sys.argv[1] == "ours" else open_official_sdk(sys.argv[2]))
