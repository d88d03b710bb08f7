"""A sweep of an organization: every account by its own role, and none that is lost in silence."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from encryption_guard.sweep.shares import Share
from tests.emulators.cloud import (
    ACCOUNT,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.resource_directory import Member
from tests.integration.sweep.test_function import sweep

FIRST, SECOND = "2222222222222222", "3333333333333333"
MEMBERS = [Member(FIRST), Member(SECOND)]
REGIONS = (REGION, "cn-shanghai")
ORGANIZATION = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_SWEEP_REGIONS": ",".join(REGIONS),
    "GUARD_SWEEP_EVERY": "0",
    "GUARD_ACCOUNTS_PER_SHARE": "1000",
}


def plant(cloud: EmulatedCloud, *account_ids: str) -> list[str]:
    """A bucket without encryption in each region of these accounts."""
    return [
        cloud.tables.plant("orders", account_id=account_id, region=region)
        for account_id in account_ids
        for region in REGIONS
    ]


def encrypted(cloud: EmulatedCloud, arns: list[str]) -> list[str]:
    return [arn for arn in arns if cloud.tables.encryption(arn) == "AES256"]


def refusals(cloud: EmulatedCloud) -> list[int | None]:
    """The requests to buckets that were refused, such as one with the key of another account."""
    return [each.status for each in cloud.tables.requests if (each.status or 500) >= 400]


def taken(cloud: EmulatedCloud) -> list[str]:
    return sorted(key.account_id for key in cloud.sts.issued)


def test_every_account_is_swept_by_its_own_role() -> None:
    """In every region, with one key each that the next sweep still has."""
    members = [*MEMBERS, Member("6666666666666666", deletion="Deleting")]
    with emulated_cloud(environment=ORGANIZATION, members=members) as cloud:
        arns = plant(cloud, ACCOUNT, FIRST, SECOND)

        first, _ = sweep(cloud)
        second, _ = sweep(cloud)

        assert encrypted(cloud, arns) == arns
        assert (taken(cloud), refusals(cloud)) == ([FIRST, SECOND], [])
        assert len(cloud.directory.requests) == 1
    assert (first["ok"], second["ok"]) == (True, True)
    assert first["totals"]["newly_encrypted"] == second["totals"]["encrypted"] == 6
    assert {name: tally["buckets"] for name, tally in first["regions"].items()} == dict.fromkeys(
        REGIONS, 3
    )


def test_threads_of_many_accounts_never_mix_their_keys() -> None:
    """Two sweeps of twenty accounts in two regions: no request is refused."""
    members = [Member(f"77777777777777{number:02}") for number in range(20)]
    with emulated_cloud(environment=ORGANIZATION, members=members) as cloud:
        arns = plant(cloud, ACCOUNT, *(each.account_id for each in members))

        with ThreadPoolExecutor(2) as pool:
            sweeps = list(pool.map(lambda _: cloud.sweep(), range(2)))

        assert encrypted(cloud, arns) == arns
        assert refusals(cloud) == []
    results = [json.loads(each[-1].result or "") for each in sweeps]
    assert [(each["ok"], each["totals"]["buckets"]) for each in results] == [(True, 42)] * 2


def test_a_share_that_cannot_be_read_is_kept_by_the_platform() -> None:
    """It fails, and the failure destination has it."""
    share = Share((ACCOUNT,), datetime.now(timezone.utc))
    payload = json.dumps({"share": json.loads(share.payload)["share"] | {"version": 2}}).encode()
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        calls = cloud.sweeper.deliver(payload)

        assert cloud.tables.requests == []
        (message,) = cloud.queue.bodies(QUEUE)
    assert all(call.error for call in calls)
    assert json.loads(json.loads(message)["requestPayload"]) == json.loads(payload)
