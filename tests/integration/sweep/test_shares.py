"""Shares end to end: calls that come late, cannot be read or started, or name a stranger.

tests/chaos/test_organization.py has those that go well or die.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.sweep.shares import Share
from tests.emulators.cloud import (
    ACCOUNT,
    QUEUE,
    REGION,
    EmulatedCloud,
    deployed_role,
    emulated_cloud,
)
from tests.emulators.function_compute import Invocation
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import Role, TrustPolicy
from tests.integration.sweep.test_function import lines, sweep

REGIONS = (REGION, "cn-shanghai")
ORGANIZATION = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_SWEEP_REGIONS": ",".join(REGIONS),
    "GUARD_SWEEP_EVERY": "0",
    "GUARD_EXEMPTIONS": '[{"bucket": "exempt-*", "reason": "samples"}]',
}
ACCOUNTS = [f"88000000000{number:05}" for number in range(24)]
MEMBERS = [Member(each) for each in ACCOUNTS]
Plan = dict[str, str | None]


def plant(
    cloud: EmulatedCloud,
    accounts: Iterable[str],
    regions: Iterable[str] = REGIONS,
    buckets: int = 5,
) -> Plan:
    """Buckets of each account in each region, a fifth of them open; what each has to end with."""
    places = [(account, region) for account in accounts for region in regions]
    plan: Plan = {}
    for number, (account, region) in enumerate(places * buckets):
        kind = ("open", "aes", "kms", "exempt", "sm4")[number // len(places) % 5]
        encryption = {"aes": "AES256", "kms": "KMS", "sm4": "SM4"}.get(kind)
        name = f"{kind}-{number // len(places)}"
        arn = cloud.tables.plant(name, account_id=account, region=region, encryption=encryption)
        plan[arn] = "AES256" if kind == "open" else encryption
    return plan


def found(cloud: EmulatedCloud, plan: Plan) -> Plan:
    return {arn: cloud.tables.encryption(arn) for arn in plan}


def results(invocations: Iterable[Invocation]) -> list[dict[str, Any]]:
    """What the calls returned that did not fail."""
    return [json.loads(each.result) for each in invocations if each.result]


def reasons(answers: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(each["reason"] for answer in answers for each in answer["problems"])


def late_share(*accounts: str) -> Share:
    return Share(accounts, datetime.now(timezone.utc) - timedelta(seconds=90))


def test_a_share_that_waited_too_long_is_one_finding_and_no_dead_letter() -> None:
    """The platform gets no failure, so that it neither repeats nor keeps the call."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        plan = plant(cloud, ACCOUNTS[:1])

        (call,) = cloud.sweeper.deliver(late_share(ACCOUNTS[0]).payload)

        assert cloud.queue.bodies(QUEUE) == []
        assert cloud.tables.requests == []
        assert found(cloud, plan) != plan
    assert call.error is None
    assert reasons(results([call])) == {"superseded": 1}
    (finding, end) = lines(call)
    assert (finding["level"], finding["kind"], finding["reason"]) == (
        *("WARNING", "share"),
        "superseded",
    )
    assert (end["level"], end["message"]) == ("WARNING", "share superseded")


@pytest.mark.parametrize(
    "changed", [{"version": 2}, {"accounts": ["no account"]}], ids=["later version", "garbage"]
)
def test_a_share_that_cannot_be_read_is_kept_by_the_platform(changed: dict[str, Any]) -> None:
    """It fails, and the failure destination has it."""
    share = Share((ACCOUNT,), datetime.now(timezone.utc))
    fields = json.loads(share.payload)["share"] | changed
    payload = json.dumps({"share": fields}).encode()
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        calls = cloud.sweeper.deliver(payload)

        assert cloud.tables.requests == []
        (message,) = cloud.queue.bodies(QUEUE)
    assert all(call.error for call in calls)
    assert json.loads(json.loads(message)["requestPayload"]) == json.loads(payload)


def test_an_account_of_no_organization_is_not_entered() -> None:
    """Although its role trusts the guard: who may invoke the function cannot send it there."""
    stranger = "9999999999999999"
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        cloud.sts.plant(replace(cloud.member_roles[ACCOUNTS[0]], account_id=stranger))
        plan = plant(cloud, [ACCOUNTS[0]])

        (call,) = cloud.sweeper.deliver(
            Share((ACCOUNTS[0], stranger), datetime.now(timezone.utc)).payload
        )

        assert found(cloud, plan) == plan
        assert {key.account_id for key in cloud.sts.issued} == {ACCOUNTS[0]}
    assert reasons(results([call])) == {"not_prepared": 1}


def test_without_the_right_to_call_itself_each_share_is_one_finding() -> None:
    """The log says which right, and the next minute starts the shares again."""
    role = replace(deployed_role("sweep", ORGANIZATION), denied=frozenset({"InvokeFunction"}))
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS, sweep_role=role) as cloud:
        result, call = sweep(cloud)

        assert cloud.shares() == []
    assert reasons([result]) == {"not_started": 3}
    assert "fc:InvokeFunction" in call.logs


def test_members_that_cannot_be_entered_are_one_finding_each() -> None:
    """Wherever their shares run: a role that trusts nobody, and an account that has none."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS, sweep_instances=4) as cloud:
        unprepared: dict[str, Callable[[Role], Role]] = {
            ACCOUNTS[3]: lambda role: replace(role, trust=TrustPolicy(())),
            ACCOUNTS[17]: lambda role: replace(role, name="another"),
        }
        for account, change in unprepared.items():
            cloud.sts.remove(cloud.member_roles[account])
            cloud.sts.plant(change(cloud.member_roles[account]))
        plan = plant(cloud, [each for each in ACCOUNTS if each not in unprepared])
        plant(cloud, unprepared)

        sweep(cloud)
        answers = results(cloud.shares())

        assert found(cloud, plan) == plan
    problems = [each for answer in answers for each in answer["problems"]]
    assert sorted((each["account"], each["reason"]) for each in problems) == [
        (account, "not_prepared") for account in sorted(unprepared)
    ]
