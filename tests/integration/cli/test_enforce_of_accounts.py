"""`encryption-guard enforce` of a bucket of another account: GUARD_ACCOUNTS says by whose role."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.emulators.cloud import (
    ACCOUNT,
    MEMBER_ROLE,
    QUEUE,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import OPERATOR, admit, invoke
from tests.emulators.resource_directory import Member
from tests.integration.cli.members import refusals, taken
from tests.unit.fakes import creation_of, dead_letter_of
from tests.unit.sweep.sweeps import FIRST, SECOND

STRANGER = "9999999999999999"
LISTED: dict[str, Any] = {"GUARD_ACCOUNTS": f"{FIRST},{SECOND}"}
ORGANIZATION = {"GUARD_ACCOUNTS": "organization"}


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    with emulated_cloud(members=[Member(FIRST), Member(SECOND)]) as cloud:
        admit(cloud)
        yield cloud


def enforce(cloud: EmulatedCloud, *arguments: str, **variables: Any) -> Result:
    return invoke(cloud, "enforce", *arguments, key=OPERATOR, **variables)


@pytest.mark.parametrize("accounts", [LISTED, ORGANIZATION], ids=["listed", "organization"])
@pytest.mark.parametrize("own", [None, ACCOUNT], ids=["asked", "named"])
def test_a_bucket_of_a_member_is_encrypted_by_its_role(
    cloud: EmulatedCloud, accounts: dict[str, str], own: str | None
) -> None:
    """A plan takes the role, too: it has to read."""
    arn = cloud.tables.plant("orders", account_id=FIRST)

    plan = enforce(cloud, arn, FC_ACCOUNT_ID=own, **accounts)
    before = cloud.tables.encryption(arn)
    done = enforce(cloud, arn, "--apply", FC_ACCOUNT_ID=own, **accounts)

    assert (plan.exit_code, before) == (1, None)
    assert (done.exit_code, cloud.tables.encryption(arn)) == (0, "AES256")
    assert "detected" in plan.stdout
    assert f", in account {FIRST} with the role {MEMBER_ROLE}." in done.stderr
    assert (taken(cloud), refusals(cloud)) == ([FIRST, FIRST], [])


@pytest.mark.parametrize("accounts", [{}, LISTED, ORGANIZATION], ids=["none", "listed", "all"])
def test_a_bucket_of_the_own_account_needs_no_role(
    cloud: EmulatedCloud, accounts: dict[str, str]
) -> None:
    """As without other accounts."""
    arn = cloud.tables.plant("orders")

    done = enforce(cloud, arn, "--apply", **accounts)

    assert (done.exit_code, cloud.tables.encryption(arn)) == (0, "AES256")
    assert taken(cloud) == []


@pytest.mark.parametrize("accounts", [{}, LISTED, ORGANIZATION], ids=["none", "listed", "all"])
def test_a_bucket_of_a_stranger_is_tried_with_the_operators_own_key(
    cloud: EmulatedCloud, accounts: dict[str, str]
) -> None:
    """An ARN allows its own account, and no role is taken there: the service refuses it."""
    arn = cloud.tables.plant("orders", account_id=STRANGER)

    done = enforce(cloud, arn, "--apply", **accounts)

    assert (done.exit_code, cloud.tables.encryption(arn)) == (1, None)
    assert "rejected" in done.stdout
    assert taken(cloud) == []


def test_an_account_that_is_not_prepared_is_said(cloud: EmulatedCloud) -> None:
    """With what to do; nothing is done, and no dead letter written."""
    arn = cloud.tables.plant("orders", account_id=FIRST)
    cloud.sts.remove(cloud.member_roles[FIRST])

    done = enforce(cloud, arn, "--apply", **LISTED)

    assert done.exit_code == 2
    assert f"Create the role in account {FIRST}" in done.stderr
    assert (cloud.queue.bodies(QUEUE), cloud.tables.requests) == ([], [])


def test_trouble_of_sts_leaves_the_bucket_unfinished(cloud: EmulatedCloud) -> None:
    """A later try may succeed."""
    arn = cloud.tables.plant("orders", account_id=FIRST)
    cloud.sts.faults.add(Fault(Refuse(503), resource=FIRST))

    done = enforce(cloud, arn, "--apply", GUARD_MAX_ATTEMPTS="1", **LISTED)

    assert (done.exit_code, "a later try may succeed" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("operation", "said"),
    [("ListAccounts", "The accounts of the"), ("GetCallerIdentity", "set FC_ACCOUNT_ID")],
)
def test_what_has_to_be_known_first_stops_it(
    cloud: EmulatedCloud, operation: str, said: str
) -> None:
    """A directory that the caller may not list, and an own account that is not known."""
    arn = cloud.tables.plant("orders", account_id=FIRST)
    for service in (cloud.directory, cloud.sts):
        service.faults.add(Fault(Refuse(403), operation=operation))

    done = enforce(cloud, arn, "--apply", **ORGANIZATION)

    assert (done.exit_code, said in done.stderr) == (2, True)
    assert cloud.tables.requests == []


def test_the_tables_of_a_member_are_checked_by_its_role(cloud: EmulatedCloud) -> None:
    """After a late encryption, as the function does."""
    arn = cloud.tables.plant("orders", account_id=FIRST)
    cloud.tables.plant_table(arn, "sales", "invoices")

    done = enforce(cloud, arn, "--apply", **LISTED)

    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [line["table"] for line in lines if line.get("kind") == "table"] == ["invoices"]
    assert (refusals(cloud), taken(cloud)) == ([], [FIRST])


def test_an_unclear_encryption_of_a_member_is_explained(cloud: EmulatedCloud) -> None:
    """It is read again with the same key."""
    arn = cloud.tables.plant("orders", account_id=FIRST)
    cloud.tables.faults.add(Fault(Refuse(403), operation="GetTableBucketEncryption"))

    plan = enforce(cloud, arn, **LISTED)

    assert f"The encryption of {arn} is not clear" in plan.stderr
    assert taken(cloud) == [FIRST]


@pytest.mark.parametrize("accounts", [LISTED, ORGANIZATION], ids=["listed", "organization"])
def test_the_events_of_a_file_share_the_key_of_their_account(
    cloud: EmulatedCloud, tmp_path: Path, accounts: dict[str, str]
) -> None:
    """One role is taken, and the directory is read once."""
    arns = [cloud.tables.plant(f"orders-{number}", account_id=FIRST) for number in range(3)]
    file = tmp_path / "events.json"
    file.write_text(json.dumps([creation_of(arn, event_id=arn) for arn in arns]), "utf-8")

    arguments = ("--event", str(file), "--account", ACCOUNT)
    done = enforce(cloud, *arguments, "--apply", **accounts)

    assert done.exit_code == 0, done.stderr
    assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert (taken(cloud), len(cloud.directory.requests) <= 1) == ([FIRST], True)


def test_dead_letters_of_members_are_processed_here_by_their_role(cloud: EmulatedCloud) -> None:
    """`redrive --local`: one key for all messages of an account."""
    arns = [cloud.tables.plant(f"orders-{number}", account_id=FIRST) for number in range(2)]
    for arn in arns:
        cloud.queue.put(QUEUE, b64encode(dead_letter_of(creation_of(arn, event_id=arn))))

    arguments = ("dead-letters", "redrive", "--local", "--apply")
    done = invoke(cloud, *arguments, key=OPERATOR, FC_ACCOUNT_ID=ACCOUNT, **LISTED)

    assert done.exit_code == 0, done.stderr
    assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert (taken(cloud), cloud.queue.bodies(QUEUE)) == ([FIRST], [])
