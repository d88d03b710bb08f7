"""The inside of a sweeping client's process: our sweep, and the same with the vendor's SDK."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from encryption_guard.arn import Scope
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, Invocation, TimeBudget
from encryption_guard.services.inventory import PAGE_SIZE
from encryption_guard.settings import Settings
from encryption_guard.sweep import WORKERS, Sweep
from encryption_guard.sweep.findings import Finding, Totals
from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN


@dataclass
class Swept:
    """How many buckets are encrypted, and when the last of each region was found to be."""

    encrypted: int = 0
    done_at: dict[str, float] = field(default_factory=dict)


SweepRegions = Callable[[Sequence[str]], Swept]

BUDGET_SECONDS = 600.0


def open_ours(endpoint: str, workers: int = WORKERS) -> SweepRegions:
    """The sweep of this package, which counts what it finds and keeps nothing else."""
    transport = open_transport()
    settings = Settings.from_environment({"GUARD_OSS_TABLES_ENDPOINT": endpoint})
    clock = Clock()
    letters = DeadLetters(_no_letter, _no_letter, "benchmark", "benchmark", clock.now)

    def sweep(regions: Sequence[str]) -> Swept:
        totals = Totals.empty(Scope(None, region) for region in regions)
        done_at = dict.fromkeys(regions, 0.0)
        budget = TimeBudget(clock.monotonic() + BUDGET_SECONDS, clock)

        def report(finding: Finding) -> None:
            totals.count(finding)
            done_at[finding.region] = time.perf_counter()

        Sweep(
            invocation=Invocation(transport, settings, Credentials.read, budget, clock),
            dead_letters=letters,
            apply=True,
            audit="false",
            report=report,
            workers=workers,
        ).check_buckets(Scope(None, region) for region in regions)
        return Swept(totals.all.encrypted, done_at)

    return sweep


def _no_letter(*told: object, **more: object) -> None:
    raise RuntimeError(f"there was nothing to refuse, but: {told} {more}")


def open_official_sdk(endpoint: str, workers: int = 1) -> SweepRegions:
    """The vendor's client with its own defaults, but for the address: so many buckets at a time."""
    open_client = functools.cache(functools.partial(_sdk_client, endpoint))
    pool = ThreadPoolExecutor(workers)

    def sweep(regions: Sequence[str]) -> Swept:
        found = (_encrypted_by_sdk(open_client(region), pool) for region in regions)
        return Swept(sum(sum(buckets) for buckets in found))

    return sweep


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


def _encrypted_by_sdk(client: Any, pool: ThreadPoolExecutor) -> Iterator[bool]:
    from alibabacloud_oss_v2.tables import models

    def read(arn: str) -> bool:
        asked = models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
        found = client.get_table_bucket_encryption(asked).encryption_configuration
        return bool(found.sse_algorithm == "AES256")

    pages = client.list_table_buckets_paginator(limit=PAGE_SIZE)
    for page in pages.iter_page(models.ListTableBucketsRequest()):
        yield from pool.map(read, [bucket.arn for bucket in page.table_buckets])


def serve(sweep: SweepRegions) -> None:
    """Sweep the regions of every line that comes in; print seconds and what was found as JSON."""
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        swept = sweep(line.split())
        done_after = {region: at - wall for region, at in swept.done_at.items()}
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        told = {"cpu": cpu, "wall": wall, "encrypted": swept.encrypted, "done_after": done_after}
        print(json.dumps(told), flush=True)
