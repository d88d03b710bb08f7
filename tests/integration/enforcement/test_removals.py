"""Somebody removes a bucket's encryption again and again, and creates a table each time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from alibabacloud_oss_v2 import tables as oss_tables

from tests.emulators.access_keys import AccessKey
from tests.emulators.action_trail import CLIENT_ADDRESS
from tests.emulators.cloud import (
    ACCOUNT,
    EmulatedCloud,
    deployment,
    emulated_cloud,
)
from tests.emulators.faults import Delay, Fault
from tests.emulators.function_compute import Invocation
from tests.emulators.log_alerts import Alert, LogStore
from tests.emulators.owners_client import owners_client
from tests.emulators.serverless_devs.checks import indexed, made

MALLORY = AccessKey("LTAI-mallory", "mallory-secret", ACCOUNT, user_name="mallory")
BY = f"ram-user:mallory of {ACCOUNT} from {CLIENT_ADDRESS}"
RESOURCES = deployment({"GUARD_ACTION_POLICY": "sls.builtin"})["resources"]


@dataclass(frozen=True)
class Person:
    """A RAM user with the vendor's own client."""

    cloud: EmulatedCloud
    client: Any

    def remove_encryption(self, arn: str) -> None:
        request = oss_tables.models.DeleteTableBucketEncryptionRequest(table_bucket_arn=arn)
        self.client.delete_table_bucket_encryption(request)

    def create_table(self, arn: str, name: str) -> None:
        """Create a table, before the guard can set the encryption again."""
        self.cloud.tables.plant_table(arn, "sales", name)

    def removes_and_creates(self, arn: str, names: list[str]) -> None:
        """Do both for each name, and wait for the guard; no two are in the same second."""
        for name in names:
            self.remove_encryption(arn)
            self.create_table(arn, name)
            self.cloud.bus.join(timeout=30)
            time.sleep(1 - time.time() % 1)


@pytest.fixture
def mallory() -> Iterator[Callable[[EmulatedCloud], Person]]:
    """Makes Mallory, who may do everything with the buckets."""
    with ExitStack() as stack:

        def of(cloud: EmulatedCloud) -> Person:
            cloud.tables.admit(MALLORY)
            # The guard's answer takes a moment, in which a table can be created.
            cloud.tables.faults.add(Fault(Delay(0.3), operation="GetTableBucketEncryption"))
            return Person(cloud, stack.enter_context(owners_client(cloud, MALLORY)))

        yield of


def lines(invocations: list[Invocation]) -> list[dict[str, Any]]:
    text = "".join(invocation.logs for invocation in invocations)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def risen(logged: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The alerts that rise at these lines, and what they tell.

    No timer runs here: the alert on missing sweeps is asked only where one ran.
    """
    records = [{"message": json.dumps(line), "requestId": line["request_id"]} for line in logged]
    store, now = LogStore(indexed(RESOURCES)), datetime.now(timezone.utc) + timedelta(seconds=1)
    found = {
        alert["Detail"]["Name"].removeprefix("encryption-guard-"): Alert(
            alert["Detail"], store
        ).rows(records, now)
        for alert in made(RESOURCES, "ALIYUN::SLS::Alert")
    }
    swept = any(line["message"] in ("sweep finished", "watch finished") for line in logged)
    return {name: rows for name, rows in found.items() if rows and (swept or name != "silent")}


def test_who_removes_an_encryption_five_times_is_named_five_times_with_all_five_tables(
    mallory: Callable[[EmulatedCloud], Person],
) -> None:
    """Each removal is a warning with who did it, and each look names that one table."""
    names = [f"table-{number}" for number in range(5)]
    with emulated_cloud() as cloud:
        arn = cloud.tables.plant("orders", encryption="AES256")
        cloud.tables.plant_table(arn, "sales", "before")
        time.sleep(1 - time.time() % 1)
        mallory(cloud).removes_and_creates(arn, names)
        cloud.tables.plant_table(arn, "sales", "after")

        logged = lines(cloud.invocations)
        assert cloud.tables.encryption(arn) == "AES256"
        # What a later sweep says of the bucket, whose tables show its present encryption.
        (sweep,) = cloud.sweep()
        result = json.loads(sweep.result or "")
        logged += lines([sweep])

    removals = [line for line in logged if line["message"] == "encryption removed"]
    assert [(line["level"], line["outcome"], line["by"]) for line in removals] == [
        ("WARNING", "encrypted", BY)
    ] * 5
    tables = [line for line in logged if line.get("kind") == "table"]
    assert [(line["level"], line["table"], line["reason"]) for line in tables] == [
        ("WARNING", name, "made_before") for name in names
    ]
    (row,) = risen(logged)["removed-again"]
    assert (row["arn"], row["who"]) == (arn, BY)
    assert set(risen(logged)) == {"removed", "removed-again"}
    assert (result["ok"], result["totals"]["encrypted"], result["problems"]) == (True, 1, [])


def test_an_event_that_comes_twice_is_one_removal(
    mallory: Callable[[EmulatedCloud], Person],
) -> None:
    """Its second line says who did it too, but does not raise the second alert."""
    with emulated_cloud(twice=1.0) as cloud:
        arn = cloud.tables.plant("orders", encryption="AES256")
        mallory(cloud).removes_and_creates(arn, ["table"])

        logged = lines(cloud.invocations)
        told = [(line["outcome"], line["by"]) for line in cloud.outcomes()]
    assert sorted(told) == [("already_encrypted", BY), ("encrypted", BY)]
    assert {line["table"] for line in logged if line.get("kind") == "table"} == {"table"}
    assert set(risen(logged)) == {"removed"}
