"""The commands under docs/policies: an operator's do everything that they can, an auditor's read.

The emulated cloud holds each of their calls against the policy of the key that makes it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from encryption_guard.dead_letters.redrivable import CREATION_FUNCTION, SWEEP_FUNCTION
from tests.documents import REPOSITORY
from tests.emulators import operators_shell as shell
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    ACCOUNT,
    EXTERNAL_ID,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import invoke
from tests.emulators.ram_policies import Policy, Statement
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import Role, TrustPolicy
from tests.integration.cli.test_status import change
from tests.unit.fakes import creation_of, dead_letter_of
from tests.unit.sweep.sweeps import FIRST

# Both names are granted, because the pages of SMQ contradict each other about these calls. The
# emulated service asks for the names of the calls' own pages.
OTHER_NAMES = {
    "mns:PeekMessage": "mns:BatchPeekMessage",
    "mns:ReceiveMessage": "mns:BatchReceiveMessage",
}
EMULATED = ("oss", "mns", "fc", "log", "sts", "resourcemanager")
# What an auditor may see in the consoles, and no command asks for.
ONLY_IN_A_CONSOLE = {
    *("mns:GetQueueAttributes", "fc:ListTriggers", "log:GetLogStore", "log:GetIndex"),
    *(
        "log:GetAlert",
        "fc:GetFunctionAsyncInvokeConfig",
        "fc:ListLayerVersions",
    ),
}
SENT_AGAIN, BY_THE_SWEEP, HERE, DISCARDED = "event-1", "event-2", "event-3", "event-4"


@dataclass(frozen=True)
class Command:
    """A command of the guard, and the exit code that it has to end with."""

    words: tuple[str, ...]
    exit_code: int = 0


# An auditor takes a role that only reads, because the guard's own one encrypts.
AUDITORS_ROLE = "oss-tables-encryption-guard-auditor"
READING = Policy.of(
    [
        {
            "Effect": "Allow",
            "Action": ["oss:List*", "oss:Get*"],
            "Resource": "*",
        }
    ]
)
SWEEP = ("sweep", "--region", REGION, "--tables")
EVERYWHERE = (*SWEEP, "--organization")
# Dead letters wait.
STATUS = ("status", "--region", REGION)
LETTERS = "dead-letters"
REFUSED = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/refused"
COMMANDS: Mapping[str, tuple[Command, ...]] = {
    "operator": (
        Command((LETTERS, "list")),
        Command((LETTERS, "list", "--peek")),
        Command((LETTERS, "show", SENT_AGAIN)),
        Command((LETTERS, "redrive", SENT_AGAIN, "--apply")),
        Command((LETTERS, "redrive", BY_THE_SWEEP, "--apply")),
        Command((LETTERS, "redrive", HERE, "--local", "--apply")),
        Command((LETTERS, "discard", DISCARDED, "--because", "a test bucket", "--apply")),
        # A refusal, so that each writes a dead letter.
        Command(("enforce", REFUSED, "--apply"), exit_code=1),
        Command((*SWEEP, "--apply"), exit_code=1),
        Command((*SWEEP, "--as-deployed"), exit_code=1),
        Command((*EVERYWHERE, "--apply"), exit_code=1),
        Command(STATUS, exit_code=1),
    ),
    # The buckets are open, which a sweep that changes nothing reports.
    "auditor": (
        Command((LETTERS, "list", "--peek")),
        Command((*SWEEP, "--as-deployed"), exit_code=1),
        Command((*EVERYWHERE, "--role", AUDITORS_ROLE), exit_code=1),
        Command(STATUS, exit_code=1),
    ),
}

# Those of an operator that change, receive or hide something.
REFUSED_COMMANDS = tuple(
    command for command in COMMANDS["operator"] if "--peek" not in command.words
)


def key_of(person: str) -> AccessKey:
    """A RAM user of the account with the policy of docs/policies, and nothing else."""
    file = REPOSITORY / "docs" / "policies" / f"{person}.json"
    policy = Policy.of(json.loads(file.read_text("utf-8"))["Statement"])
    return AccessKey(f"LTAI-emulated-{person}", f"{person}-secret", ACCOUNT, policy=policy)


def admit(cloud: EmulatedCloud, key: AccessKey) -> None:
    """Let the key call every service, and let both roles of the member trust it."""
    shell.admit(cloud, key)
    assert key.principal
    trust = TrustPolicy.naming([key.principal], external_id=EXTERNAL_ID)
    cloud.sts.plant(Role(FIRST, AUDITORS_ROLE, trust, READING))


def plant(cloud: EmulatedCloud) -> None:
    """Four dead letters, a bucket that refuses, and one with tables, none of them encrypted.

    The guard covers the organization, in two shares; its member has a bucket, too.
    """
    for name in (CREATION_FUNCTION, SWEEP_FUNCTION):
        change(cloud, name, GUARD_ACCOUNTS="organization", GUARD_ACCOUNTS_PER_SHARE="1")
    cloud.tables.plant("orders", account_id=FIRST)
    for event_id in (SENT_AGAIN, BY_THE_SWEEP, HERE, DISCARDED):
        event = creation_of(cloud.tables.plant(event_id), event_id=event_id)
        function = SWEEP_FUNCTION if event_id == BY_THE_SWEEP else CREATION_FUNCTION
        cloud.queue.put(QUEUE, b64encode(dead_letter_of(event, function=function)))
    cloud.tables.plant("refused")
    arn = cloud.tables.plant("open")
    for table in ("early", "earlier"):
        cloud.tables.plant_table(arn, "sales", table)
    cloud.tables.faults.add(
        Fault(Refuse(403), operation="PutTableBucketEncryption", resource="refused"),
        # After a 404 a sweep asks whether the bucket, or the table, is there.
        Fault(Refuse(404), operation="GetTableBucketEncryption", resource="open", times=1),
        Fault(Refuse(404), operation="GetTableEncryption", times=1),
    )


def complaints(person: str, key: AccessKey) -> list[str]:
    """What is wrong with a policy: one sentence for each right too many, or too few."""
    assert key.policy is not None
    with emulated_cloud(members=[Member(FIRST)]) as cloud:
        plant(cloud)
        admit(cloud, key)
        said = [
            f"`{' '.join(command.words)}` ended with {done.exit_code}: {done.stderr}"
            for command in COMMANDS[person]
            if (done := invoke(cloud, *command.words, key=key)).exit_code != command.exit_code
        ]
        services = (cloud.tables, cloud.queue, cloud.api, cloud.log, cloud.sts, cloud.directory)
        rights = [service.rights for service in services]
        used = {action for one in rights for id_, action in one.used if id_ == key.id}
        missing = {action for one in rights for id_, action in one.missing if id_ == key.id}
    used |= {other for other, name in OTHER_NAMES.items() if name in used}
    asked_for = {each for each in key.policy.granted if each.partition(":")[0] in EMULATED}
    never_used = asked_for - used - (ONLY_IN_A_CONSOLE if person == "auditor" else set())
    said += [f"{action} is granted and never used" for action in sorted(never_used)]
    return said + [f"{action} is used and not granted" for action in sorted(missing)]


def changed(key: AccessKey, change: Callable[[Policy], Policy]) -> AccessKey:
    assert key.policy is not None
    return replace(key, policy=change(key.policy))


def without(action: str) -> Callable[[Policy], Policy]:
    """The policy with one action less."""

    def change(policy: Policy) -> Policy:
        left = ((one, tuple(set(one.actions) - {action})) for one in policy.statements)
        return Policy(tuple(replace(one, actions=actions) for one, actions in left if actions))

    return change


def with_more(policy: Policy) -> Policy:
    """The policy with a right that no command uses."""
    more = Statement("Allow", ("oss:DeleteTableBucket",), ("*",))
    return Policy((*policy.statements, more))


@pytest.mark.parametrize("person", COMMANDS)
def test_a_persons_policy_is_what_the_commands_need(person: str) -> None:
    """The commands use every right that the emulated services check, and lack none."""
    assert complaints(person, key_of(person)) == []


@pytest.mark.parametrize(
    ("person", "action"),
    [
        ("operator", "fc:InvokeFunction"),
        ("auditor", "sts:AssumeRole"),
    ],
)
def test_a_missing_right_is_reported(person: str, action: str) -> None:
    """A policy that loses an action of a call fails the test above."""
    said = complaints(person, changed(key_of(person), without(action)))

    assert f"{action} is used and not granted" in said


def test_an_additional_right_is_reported() -> None:
    """So does a policy with a right that no command uses."""
    said = complaints("auditor", changed(key_of("auditor"), with_more))

    assert said == ["oss:DeleteTableBucket is granted and never used"]


def test_an_auditor_changes_nothing() -> None:
    """Under the auditor's policy the commands that change or receive something are refused.

    The guard's own role would trust the auditor, and the auditor's role encrypts no bucket.
    """
    key = key_of("auditor")
    with emulated_cloud(members=[Member(FIRST)]) as cloud:
        plant(cloud)
        admit(cloud, key)
        before = cloud.queue.bodies(QUEUE)

        commands = [command.words for command in REFUSED_COMMANDS]
        commands.append((*EVERYWHERE, "--role", AUDITORS_ROLE, "--apply"))
        codes = [invoke(cloud, *words, key=key).exit_code for words in commands]

        assert 0 not in codes
        assert cloud.queue.bodies(QUEUE) == before
        assert [bucket.arn.name for bucket in cloud.tables.buckets() if bucket.encryption] == []
