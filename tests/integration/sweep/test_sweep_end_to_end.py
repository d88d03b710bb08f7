"""The timer's function over a large account with faults on, against the emulator's own truth."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from typing import Any

from tests.emulators.cloud import QUEUE, EmulatedCloud, emulated_cloud
from tests.emulators.faults import (
    Delay,
    Fault,
    GarbageBody,
    Refuse,
    Reset,
    ResetMidAnswer,
    Truncate,
    throttle,
)

REGIONS = [f"cn-region{number:02}" for number in range(30)]
EXEMPTIONS = [{"bucket": "exempt-*", "reason": "public samples", "expires": "2099-12-31"}]
# Ten buckets a region: what they are called tells what is to become of them.
NAMES = [
    *("open-0", "open-1", "open-2", "open-3", "done-0", "done-1", "done-2"),
    *("kms-0", "exempt-0", "refused-0"),
]
ENCRYPTED_BEFORE = {"done": "AES256", "kms": "KMS"}
TABLES = 20
FAULTS = [
    Fault(Delay(0.002), probability=0.2),
    Fault(throttle(503), probability=0.01),
    Fault(throttle(429, retry_after=0), probability=0.01),
    Fault(Refuse(500), probability=0.01),
    Fault(Reset(), probability=0.01),
    Fault(ResetMidAnswer(), probability=0.01),
    Fault(Truncate(), probability=0.01),
    Fault(GarbageBody(), operation="[GL]*", probability=0.01),
    # A GET after the PUT finds nothing yet.
    Fault(Refuse(404), operation="PutTableBucketEncryption", resource="open-1", times=10),
]
REFUSED = Fault(Refuse(403), operation="PutTableBucketEncryption", resource="refused-0")


def plant(cloud: EmulatedCloud) -> None:
    """30 regions of 10 buckets of 20 tables; every second table is older than its encryption."""
    for region in REGIONS:
        for name in NAMES:
            before = ENCRYPTED_BEFORE.get(name.partition("-")[0])
            arn = cloud.tables.plant(name, region=region, encryption=before)
            for number in range(TABLES):
                cloud.tables.plant_table(
                    arn, f"space-{number % 3}", f"table-{number}", unencrypted=number % 2 == 0
                )


def sweep_until_all_is_known(cloud: EmulatedCloud) -> dict[str, Any]:
    """As the timer would, one sweep after the other; returns the last one's result."""
    for _ in range(6):
        (tried,) = cloud.sweep()
        assert tried.error is None, tried.error
        result: dict[str, Any] = json.loads(tried.result or "")
        totals = result["totals"]
        if not (totals["unknown"] or totals["unknown_tables"] or totals["not_listed"]):
            return result
    raise AssertionError(f"still unknown after six sweeps: {result['problems'][:3]}")


def test_every_bucket_ends_as_it_should_and_is_counted_right() -> None:
    """30 regions x 10 buckets x 20 tables: encrypted, exempt or a dead letter, and none forgotten.

    What the sweep counts is what the service's own state says.
    """
    environment = {
        "GUARD_SWEEP_REGIONS": ",".join(REGIONS),
        "GUARD_AUDIT_TABLES": "true",
        # Each call reads all: in between only what was not met would be counted.
        "GUARD_SWEEP_EVERY": "0",
        "GUARD_EXEMPTIONS": json.dumps(EXEMPTIONS),
    }
    with emulated_cloud(environment=environment) as cloud:
        plant(cloud)
        cloud.tables.faults.add(REFUSED, *FAULTS)
        result = sweep_until_all_is_known(cloud)
        letters = Counter(json.loads(b64decode(body))["arn"] for body in cloud.queue.bodies(QUEUE))
        buckets = cloud.tables.buckets()
        tables = {str(one.arn): cloud.tables.tables(str(one.arn)) for one in buckets}

    exempt = [one for one in buckets if one.arn.name.startswith("exempt-")]
    encrypted = [one for one in buckets if one.encryption and one not in exempt]
    refused = [one for one in buckets if one not in exempt and one not in encrypted]
    assert {one.arn.name for one in refused} == {"refused-0"}
    assert letters == {str(one.arn): 1 for one in refused}
    assert {one.encryption.algorithm for one in encrypted if one.encryption} == {"AES256", "KMS"}
    looked_at = [table for one in buckets if one not in exempt for table in tables[str(one.arn)]]
    unprotected = [table for table in looked_at if table.encryption is None]
    totals = result["totals"]
    assert totals | {"newly_encrypted": 0, "already_waiting": 0} == {
        "buckets": 300,
        "encrypted": len(encrypted),
        "not_encrypted": len(refused),
        "unknown": 0,
        "exempt": len(exempt),
        "newly_encrypted": 0,
        "dead_lettered": len(refused),
        "already_waiting": 0,
        "not_reached": 0,
        "not_listed": 0,
        "tables": len(looked_at),
        "unprotected_tables": len(unprotected),
        "unknown_tables": 0,
    }
    assert len(looked_at) == 30 * 9 * TABLES
    assert {
        region: tally["buckets"] for region, tally in result["regions"].items()
    } == dict.fromkeys(REGIONS, 10)
