"""A sweep of an organization: every account by its own role, and none that is lost in silence."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.emulators.cloud import (
    ACCOUNT,
    MEMBER_ROLE,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.function_compute import Invocation
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import Role, TrustPolicy
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


def told(result: dict[str, Any]) -> list[tuple[str, str | None, str | None, str]]:
    return [
        (each["kind"], each["account"], each["region"], each["reason"])
        for each in result["problems"]
    ]


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


def test_listed_accounts_need_no_directory() -> None:
    """The own account is always swept; an allowed one has no list that its own role could read."""
    accounts = {"GUARD_ACCOUNTS": f"{FIRST},{SECOND}", "GUARD_ALLOWED_ACCOUNTS": SECOND}
    with emulated_cloud(environment=ORGANIZATION | accounts, members=MEMBERS) as cloud:
        arns = plant(cloud, ACCOUNT, FIRST)
        plant(cloud, SECOND)

        result, _ = sweep(cloud)

        assert cloud.directory.requests == []
        assert encrypted(cloud, arns) == arns
    assert result["totals"]["buckets"] == 4


@pytest.mark.parametrize("watch", ["0", "1"], ids=["sweep", "watch"])
def test_an_account_that_is_not_prepared_is_one_finding(watch: str) -> None:
    """STS is asked once for all its regions and buckets, and the others are encrypted."""
    environment = ORGANIZATION | {"GUARD_WATCH_SECONDS": watch}
    with emulated_cloud(environment=environment, members=MEMBERS, sweep_seconds=8) as cloud:
        cloud.sts.plant(Role(FIRST, MEMBER_ROLE, TrustPolicy()))
        plant(cloud, FIRST)
        arns = plant(cloud, ACCOUNT, SECOND)

        result, invocation = sweep(cloud)

        asked = [each.resource for each in cloud.sts.requests]
        assert (sorted(filter(None, asked)), encrypted(cloud, arns)) == ([FIRST, SECOND], arns)
        assert (cloud.queue.bodies(QUEUE), refusals(cloud)) == ([], [])
    assert told(result) == [("account", FIRST, None, "not_prepared")]
    (problem,) = result["problems"]
    assert (problem["status"], problem["code"]) == (403, "NoPermission")
    assert f"Create the role in account {FIRST}" in problem["detail"]
    assert (result["ok"], result["totals"]["not_listed"]) == (False, 1)
    assert logged(invocation, "account") == [FIRST]


def logged(invocation: Invocation, kind: str) -> list[str]:
    """The accounts of the findings of this kind in the log."""
    lines = (json.loads(line) for line in invocation.logs.splitlines())
    return [line["account"] for line in lines if line.get("kind") == kind]


def test_trouble_of_sts_is_one_finding_without_a_watch() -> None:
    """The next sweep asks again."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        cloud.sts.faults.add(Fault(Refuse(503), resource=FIRST, times=4))
        arns = plant(cloud, ACCOUNT, FIRST, SECOND)

        first, _ = sweep(cloud)
        second, _ = sweep(cloud)

        assert encrypted(cloud, arns) == arns
    assert told(first) == [("account", FIRST, None, "unavailable")]
    assert (first["totals"]["buckets"], second["ok"]) == (4, True)


def test_a_watch_outlives_trouble_of_sts() -> None:
    """It asks again after a few seconds, and reports nothing that has come right."""
    environment = ORGANIZATION | {"GUARD_WATCH_SECONDS": "1"}
    with emulated_cloud(environment=environment, members=MEMBERS, sweep_seconds=16) as cloud:
        cloud.sts.faults.add(Fault(Refuse(503), resource=FIRST, times=4))
        arns = plant(cloud, ACCOUNT, FIRST, SECOND)

        result, _ = sweep(cloud)

        assert encrypted(cloud, arns) == arns
    assert (result["ok"], result["problems"]) == (True, [])


@pytest.mark.parametrize("manager", [ACCOUNT, SECOND], ids=["does not answer", "of another"])
def test_without_the_directory_a_sweep_has_the_last_list(manager: str) -> None:
    """A new instance has none: it sweeps its own account, and says that this is not all."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        cloud.directory.manager = manager
        if manager == ACCOUNT:
            cloud.directory.faults.add(Fault(Refuse(503)))
        arns = plant(cloud, ACCOUNT, FIRST)

        result, _ = sweep(cloud)

        assert encrypted(cloud, arns) == arns[:2]
    assert told(result) == [("organization", ACCOUNT, None, "directory_unreadable")]
    assert "its own account alone" in result["problems"][0]["detail"]
    assert (result["ok"], result["totals"]["not_listed"]) == (False, 1)


def test_a_token_that_leads_back_makes_the_list_incomplete() -> None:
    """What was listed is swept, and the rest is reported."""
    members = [Member(f"5555555555555{number:03}") for number in range(101)]
    environment = ORGANIZATION | {"GUARD_SWEEP_REGIONS": REGION}
    with emulated_cloud(environment=environment, members=members) as cloud:
        cloud.directory.repeats_token = True
        arn = cloud.tables.plant("orders", account_id=members[-1].account_id)

        result, _ = sweep(cloud)

        assert encrypted(cloud, [arn]) == [arn]
        assert len(taken(cloud)) == 101
    assert told(result) == [("organization", ACCOUNT, None, "directory_incomplete")]


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
