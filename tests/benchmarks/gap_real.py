"""One build in the emulated cloud of `make demo`, in real time: its timer fires each minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from alibabacloud_oss_v2 import tables as oss_tables

from tests.benchmarks.gap_figures import Creation, Measured
from tests.benchmarks.gap_record import Record
from tests.emulators.cloud import EmulatedCloud, deployment, emulated_cloud
from tests.emulators.emulated_service import utc_now
from tests.emulators.owners_client import owners_client
from tests.emulators.template import function_props

TICK_SECONDS = 60.0
WATCH = "GUARD_WATCH_SECONDS"
# After the last creation; the timer of either build has found it long before.
PATIENCE_SECONDS = 3 * TICK_SECONDS


def measure(sources: Path, creations: Sequence[Creation]) -> Measured:
    """Create the buckets at their instants; raises RuntimeError if one is never encrypted.

    An event is published in the instant of the creation, or not at all.
    """
    cloud_as_deployed = emulated_cloud(sources=sources, environment=_watch_of(sources), instances=2)
    with cloud_as_deployed as cloud, owners_client(cloud) as owner:
        record, done = Record(cloud.tables), threading.Event()
        started = time.monotonic()
        timer = threading.Thread(target=_tick, args=(cloud, started, done))
        timer.start()
        try:
            for creation in creations:
                time.sleep(max(started + creation.at - time.monotonic(), 0))
                if creation.event_at is None:
                    record.plant(creation.name, utc_now())
                else:
                    owner.create_table_bucket(
                        oss_tables.models.CreateTableBucketRequest(name=creation.name)
                    )
            _wait(record, len(creations))
        finally:
            done.set()
            # A watch would go on to the end of its minute.
            cloud.sweeper.strike(lambda _event: True)
            timer.join()
        return record.measured(creations, seconds=time.monotonic() - started)


def _watch_of(sources: Path) -> dict[str, str]:
    """The setting of the build's template, if it has one: the emulated cloud has another."""
    variables = function_props(deployment(sources=sources), "sweep")["environmentVariables"]
    return {WATCH: variables[WATCH]} if WATCH in variables else {}


def _tick(cloud: EmulatedCloud, started: float, done: threading.Event) -> None:
    due = started
    while not done.wait(max(due - time.monotonic(), 0)):
        cloud.sweep()
        due += TICK_SECONDS


def _wait(record: Record, count: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while len(record.encrypted) < count and time.monotonic() < until:
        time.sleep(0.1)
