"""The inside of a sweeping client's process: our sweep, and the same with the vendor's SDK."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from encryption_guard.arn import Scope
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, Invocation, TimeBudget
from encryption_guard.settings import Settings
from encryption_guard.sweep import WORKERS, Sweep
from encryption_guard.sweep.findings import Finding, Totals


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
    # Imported here, because nobody else should hold the SDK in memory.
    from tests.benchmarks.official_sdk import open_client
    from tests.benchmarks.official_sdk_sweep import count_encrypted

    open_once = functools.cache(functools.partial(open_client, endpoint))
    pool = ThreadPoolExecutor(workers)

    def sweep(regions: Sequence[str]) -> Swept:
        return Swept(sum(count_encrypted(open_once(region), pool) for region in regions))

    return sweep


def serve(sweep: SweepRegions) -> None:
    """Sweep the regions of every line that comes in; print seconds and what was found as JSON."""
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        swept = sweep(line.split())
        done_after = {region: at - wall for region, at in swept.done_at.items()}
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        told = {"cpu": cpu, "wall": wall, "encrypted": swept.encrypted, "done_after": done_after}
        print(json.dumps(told), flush=True)
