"""The rights that template.yaml grants: every one of them is needed, and no other is.

The functions do everything that they can, in the emulated cloud, which holds each of their calls
against the policy of their role.
"""

from __future__ import annotations

import functools
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import pytest

from tests.emulators.cloud import (
    ACCOUNT,
    AUDITING,
    NOT_AUDITING,
    QUEUE,
    EmulatedCloud,
    deployed_role,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.ram_policies import Policy, Statement
from tests.emulators.resource_directory import Member
from tests.integration.conftest import creation_of

PUT, GET = "PutTableBucketEncryption", "GetTableBucketEncryption"
# Function Compute makes this call itself, with the function's role: no code of the guard does.
MADE_BY_THE_PLATFORM = frozenset({"log:PostLogStoreLogs"})
# The pages of SMQ contradict each other about what a peek is checked as: the call's own name, as
# the emulated service does it, or this one.
OTHER_NAMES = frozenset({"mns:PeekMessage"})
NOT_SEEN_HERE = MADE_BY_THE_PLATFORM | OTHER_NAMES
# Too wide is what nobody needs, and also what nobody asked for by its name.
TOO_MUCH = "oss:DeleteTableBucket"
TABLES = frozenset({"early", "earlier"})
ENCRYPTED = {"plain", "unclear", "late"}
FUNCTIONS = ("encrypt_on_create", "sweep")
AUDITS: dict[str, Mapping[str, str]] = {
    "without the audit": NOT_AUDITING,
    "with the audit": AUDITING,
    "with that of late buckets": {},
}


@dataclass(frozen=True)
class Run:
    """What came of a scenario: the rights that were used, those that were missing, and the end.

    `used_there` and `missing_there` are those of the role in the other account.
    """

    used: frozenset[str]
    missing: frozenset[str]
    used_there: frozenset[str]
    missing_there: frozenset[str]
    encrypted: frozenset[str]
    letters: tuple[str, ...]
    unprotected: frozenset[str]


def plant(cloud: EmulatedCloud, account_id: str = ACCOUNT) -> dict[str, str]:
    """A bucket for each thing that can happen to one; `late` has tables from before."""
    minutes_ago = datetime.now(timezone.utc) - timedelta(minutes=5)
    names = ("plain", "unclear", "refused", "late")
    arns = {
        name: cloud.tables.plant(name, created_at=minutes_ago, account_id=account_id)
        for name in names
    }
    for table in TABLES:
        cloud.tables.plant_table(arns["late"], "sales", table)
    cloud.tables.faults.add(
        Fault(Refuse(403), operation=PUT, resource="refused"),
        # No page tells how an encryption that was never set is answered for. After a 404 the guard
        # asks whether the bucket, or the table, is there.
        Fault(Refuse(404), operation=GET, resource="unclear", times=1),
        Fault(Refuse(404), operation="GetTableEncryption", times=1),
    )
    return arns


def create(cloud: EmulatedCloud, account_id: str = ACCOUNT) -> str:
    """The events of all creations reach the function, that of `late` after five minutes."""
    arns = plant(cloud, account_id)
    late = (datetime.now(timezone.utc) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    # An instance that is warm: its start does not make the others late.
    cloud.function.deliver(b'{"eventName": "Other"}')
    for name, arn in arns.items():
        record = {"eventTime": late} if name == "late" else {}
        cloud.invocations.extend(cloud.function.deliver(creation_of(arn, **record)))
    return "".join(invocation.logs for invocation in cloud.invocations)


def sweep(cloud: EmulatedCloud, account_id: str = ACCOUNT) -> str:
    """The timer goes off, in an account whose events never came."""
    plant(cloud, account_id)
    return "".join(invocation.logs for invocation in cloud.sweep())


SCENARIOS: Mapping[str, Callable[[EmulatedCloud, str], str]] = {
    "encrypt_on_create": create,
    "sweep": sweep,
}


def run(function: str, audit: str, policy: Policy) -> Run:
    """The function's scenario in the own account, with this policy for its role."""
    return run_with(function, tuple(AUDITS[audit].items()), policy)


@functools.cache
def run_with(
    function: str,
    settings: tuple[tuple[str, str], ...],
    policy: Policy | None = None,
    there: Policy | None = None,
    account_id: str = ACCOUNT,
) -> Run:
    """The function's scenario in an account, with these policies instead of the deployed ones."""
    environment = dict(settings)
    key = deployed_role(function, environment)
    key = replace(key, policy=policy or key.policy)
    with emulated_cloud(
        environment=environment,
        role=key if function == "encrypt_on_create" else None,
        sweep_role=key if function == "sweep" else None,
        members=[] if account_id == ACCOUNT else [Member(account_id)],
    ) as cloud:
        if there:
            cloud.sts.plant(replace(cloud.member_roles[account_id], policy=there))
        lines = SCENARIOS[function](cloud, account_id).splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        taken = {issued.id for issued in cloud.sts.issued}
        services = (cloud.tables, cloud.queue, cloud.api, cloud.sts, cloud.directory)
        used, missing = (
            {pair for each in services for pair in getattr(each.rights, kind)}
            for kind in ("used", "missing")
        )
        return Run(
            frozenset(action for id_, action in used if id_ == key.id),
            frozenset(action for id_, action in missing if id_ == key.id),
            frozenset(action for id_, action in used if id_ in taken),
            frozenset(action for id_, action in missing if id_ in taken),
            frozenset(bucket.arn.name for bucket in cloud.tables.buckets() if bucket.encryption),
            tuple(_bucket_of(body) for body in cloud.queue.bodies(QUEUE)),
            frozenset(line["table"] for line in told if line.get("outcome") == "unprotected"),
        )


def _bucket_of(body: str) -> str:
    """Whose letter it is; the platform's own records have no place in these scenarios."""
    letter = json.loads(body if body.startswith("{") else b64decode(body))
    return str(letter.get("arn")).rpartition("/")[2]


def deployed_policy(function: str, audit: str) -> Policy:
    """What template.yaml grants the function's role."""
    policy = deployed_role(function, AUDITS[audit]).policy
    assert policy is not None
    return policy


def complaints(function: str, audit: str, policy: Policy) -> list[str]:
    """What is wrong with a policy: one sentence for each right too many, or too few."""
    ran = run(function, audit, policy)
    never_used = policy.granted - ran.used - NOT_SEEN_HERE
    audited: frozenset[str] = frozenset() if audit == "without the audit" else TABLES
    ended = (ran.encrypted == ENCRYPTED, ran.letters == ("refused",), ran.unprotected == audited)
    told = [f"{action} is granted and never used" for action in sorted(never_used)]
    told += [f"{action} is used and not granted" for action in sorted(ran.missing)]
    return told if all(ended) else [*told, f"it ended as it should not: {ran}"]


def without(policy: Policy, action: str) -> Policy:
    """The policy with one action less."""
    left = [
        (one, tuple(each for each in one.actions if each != action)) for one in policy.statements
    ]
    return Policy(tuple(replace(one, actions=actions) for one, actions in left if actions))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("audit", AUDITS)
def test_what_is_granted_is_what_is_done(function: str, audit: str) -> None:
    """Doing everything it can, a function uses every right that its role has, and lacks none."""
    assert complaints(function, audit, deployed_policy(function, audit)) == []


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_right_more_or_less_is_reported(function: str) -> None:
    """An action that a policy gains is never used; of one that it loses a call is refused."""
    more = Statement("Allow", (TOO_MUCH,), ("acs:osstables:*:*:bucket/nobodys",))
    less = without(deployed_policy(function, "with the audit"), f"oss:{PUT}")

    told = complaints(function, "with the audit", Policy((*less.statements, more)))

    assert {
        f"{TOO_MUCH} is granted and never used",
        f"oss:{PUT} is used and not granted",
    } <= {*told}


@pytest.mark.slow
def test_a_right_on_another_resource_is_none() -> None:
    """The rights on buckets are checked against the bucket: those on another one do not help."""
    policy = deployed_policy("sweep", "without the audit")
    elsewhere = tuple(
        replace(one, resources=("acs:osstables:*:*:bucket/another",))
        if f"oss:{PUT}" in one.actions
        else one
        for one in policy.statements
    )

    told = complaints("sweep", "without the audit", Policy(elsewhere))

    assert f"oss:{GET} is used and not granted" in told
