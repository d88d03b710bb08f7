"""The inside of a sweeping client's process: our sweep, and the same with the vendor's SDK."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.findings import Totals
from encryption_guard.inventory import PAGE_SIZE
from encryption_guard.sweep import WORKERS, Sweep
from encryption_guard.transport import Clock, Invocation, TimeBudget, Transport
from encryption_guard.work_lists import Where
from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN

# From regions to the number of their encrypted buckets.
SweepRegions = Callable[[Sequence[str]], int]

BUDGET_SECONDS = 600.0


def open_ours(endpoint: str, workers: int = WORKERS) -> SweepRegions:
    """The sweep of this package, which counts what it finds and keeps nothing else."""
    transport = Transport(connections=workers)
    settings = Settings.from_environment({"GUARD_OSS_TABLES_ENDPOINT": endpoint})
    clock = Clock()
    letters = DeadLetters(_no_letter, _no_letter, "benchmark", "benchmark", clock.now)

    def sweep(regions: Sequence[str]) -> int:
        totals = Totals.of(regions)
        budget = TimeBudget(clock.monotonic() + BUDGET_SECONDS, clock)
        Sweep(
            invocation=Invocation(transport, settings, Credentials.read, budget, clock),
            dead_letters=letters,
            apply=True,
            audit=False,
            report=totals.count,
            workers=workers,
        ).buckets_of(Where(None, region) for region in regions)
        return totals.all.encrypted

    return sweep


def _no_letter(*told: object, **more: object) -> None:
    raise RuntimeError(f"there was nothing to encrypt, but: {told} {more}")


def open_official_sdk(endpoint: str) -> SweepRegions:
    """The vendor's client with its own defaults, but for the address: one bucket after another."""
    open_client = functools.cache(functools.partial(_sdk_client, endpoint))
    return lambda regions: sum(sum(_encrypted_by_sdk(open_client(region))) for region in regions)


# The SDK is imported where it is used: nobody else should hold it in memory.


def _sdk_client(endpoint: str, region: str) -> Any:
    import alibabacloud_oss_v2 as oss
    from alibabacloud_oss_v2 import tables

    credentials = oss.credentials.StaticCredentialsProvider(
        ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN
    )
    return tables.Client(
        oss.config.Config(
            region=region,
            endpoint=endpoint,
            use_path_style=True,
            credentials_provider=credentials,
        )
    )


def _encrypted_by_sdk(client: Any) -> Iterator[bool]:
    from alibabacloud_oss_v2.tables import models

    pages = client.list_table_buckets_paginator(limit=PAGE_SIZE)
    for page in pages.iter_page(models.ListTableBucketsRequest()):
        for bucket in page.table_buckets:
            asked = models.GetTableBucketEncryptionRequest(table_bucket_arn=bucket.arn)
            found = client.get_table_bucket_encryption(asked).encryption_configuration
            yield found.sse_algorithm == "AES256"


def serve(sweep: SweepRegions) -> None:
    """Sweep the regions of every line that comes in; tell CPU and wall seconds, and the number."""
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        encrypted = sweep(line.split())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(cpu, wall, encrypted, flush=True)
