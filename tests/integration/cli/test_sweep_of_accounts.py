"""`encryption-guard sweep` of other accounts: chosen by an operator, entered by the member role."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    ACCOUNT,
    EXTERNAL_ID,
    MEMBER_ROLE,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import OPERATOR, admit, invoke
from tests.emulators.ram_policies import Policy
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import Role, TrustPolicy
from tests.integration.cli.members import encrypted, refusals, taken
from tests.integration.cli.test_evidence import deploy, report
from tests.unit.cli.printed import objects
from tests.unit.sweep.sweeps import FIRST, SECOND

THERE = "cn-shanghai"
HERE = ("sweep", "--region", REGION)
BOTH = ("sweep", "--region", f"{REGION},{THERE}")


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    """An organization of three accounts with an unencrypted bucket each."""
    with emulated_cloud(members=[Member(FIRST), Member(SECOND)]) as cloud:
        admit(cloud)
        for account_id in (ACCOUNT, FIRST, SECOND):
            cloud.tables.plant("orders", account_id=account_id)
        yield cloud


def run(cloud: EmulatedCloud, *arguments: str, **variables: Any) -> Result:
    return invoke(cloud, *arguments, key=OPERATOR, **variables)


@pytest.mark.parametrize(
    ("arguments", "variables", "swept"),
    [
        ((), {}, {ACCOUNT}),
        (("--organization",), {}, {ACCOUNT, FIRST, SECOND}),
        (("--account", FIRST), {}, {FIRST}),
        (("--account", FIRST), {"FC_ACCOUNT_ID": ACCOUNT}, {FIRST}),
        (("--account", f"{SECOND}, {FIRST}"), {}, {FIRST, SECOND}),
        (("--account", ACCOUNT), {}, {ACCOUNT}),
        ((), {"GUARD_ACCOUNTS": SECOND}, {ACCOUNT, SECOND}),
        ((), {"GUARD_ACCOUNTS": "organization"}, {ACCOUNT, FIRST, SECOND}),
        (("--account", FIRST), {"GUARD_ACCOUNTS": SECOND}, {FIRST}),
        ((), {"GUARD_ACCOUNTS": SECOND, "GUARD_ALLOWED_ACCOUNTS": SECOND}, {ACCOUNT}),
        (("--organization",), {"GUARD_ALLOWED_ACCOUNTS": SECOND}, {ACCOUNT, FIRST, SECOND}),
        (("--account", SECOND), {"GUARD_ALLOWED_ACCOUNTS": SECOND}, {SECOND}),
    ],
)
def test_the_chosen_accounts_are_swept(
    cloud: EmulatedCloud, arguments: tuple[str, ...], variables: dict[str, Any], swept: set[str]
) -> None:
    """Each with its own key, and the own one with that of the operator."""
    result = run(cloud, *HERE, *arguments, "--apply", **variables)

    assert result.exit_code == 0, result.stderr
    assert encrypted(cloud) == swept
    assert taken(cloud) == sorted(swept - {ACCOUNT})
    assert refusals(cloud) == []
    assert cloud.queue.bodies(QUEUE) == []
    assert f"{len(swept)} table bucket" in result.stderr


def test_a_caller_that_is_a_role_is_in_its_own_account(cloud: EmulatedCloud) -> None:
    """No second role is taken for the account of the session."""
    session = AccessKey("STS.session", "s", ACCOUNT, "a-token", role_name="admin")
    admit(cloud, session)

    result = invoke(
        cloud,
        *(*HERE, "--organization", "--apply"),
        key=session,
        ALIBABA_CLOUD_SECURITY_TOKEN="a-token",
    )

    assert (result.exit_code, taken(cloud)) == (0, [FIRST, SECOND])
    assert encrypted(cloud) == {ACCOUNT, FIRST, SECOND}


def test_another_role_can_be_taken(cloud: EmulatedCloud) -> None:
    """Such as one that only reads."""
    assert OPERATOR.principal
    trust = TrustPolicy.naming([OPERATOR.principal], external_id=EXTERNAL_ID)
    cloud.sts.plant(replace(cloud.member_roles[FIRST], name="reader", trust=trust))

    done = run(cloud, *HERE, "--account", FIRST, "--role", "reader", "--output", "json")

    *_, totals = objects(done.stdout)
    assert (totals["member_role"], totals["account_ids"]) == ("reader", [FIRST])
    assert [key.role_name for key in cloud.sts.issued] == ["reader"]


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("--organization", "--account", FIRST), {}, "either --organization or --account"),
        (("--account", "12"), {}, "'12' is not an account ID of 5 to 20 digits"),
        (("--account", f"{FIRST},"), {}, "'' is not an account ID"),
        (("--account", "\u0661" * 5), {}, "is not an account ID"),
        (("--account", FIRST, "--role", "a/b"), {}, "'a/b' is not the name of a role"),
        (("--account", FIRST, "--role", ""), {}, "'' is not the name of a role"),
        (("--role", "reader"), {}, "--role is the role in other accounts"),
        ((), {"GUARD_ACCOUNTS": "12"}, 'GUARD_ACCOUNTS is "12"'),
    ],
)
def test_a_wrong_choice_is_misuse(
    cloud: EmulatedCloud, arguments: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    """It is named, and nothing is asked of any service."""
    result = run(cloud, *HERE, *arguments, **variables)

    assert result.exit_code == 2
    assert said in result.stderr
    assert cloud.tables.requests == cloud.sts.requests == []


def lead_elsewhere(cloud: EmulatedCloud) -> None:
    cloud.directory.manager = SECOND


def answer(refusal: Refuse) -> Callable[[EmulatedCloud], None]:
    return lambda cloud: cloud.directory.faults.add(Fault(refusal))


@pytest.mark.parametrize(
    ("spoil", "exit_code", "words"),
    [
        (
            lead_elsewhere,
            2,
            [
                "answered 404 EntityNotExists.ResourceDirectory",
                "Only the management account",
                "resourcemanager:ListAccounts",
                "name the accounts with --account",
            ],
        ),
        # That is no right that is missing.
        (answer(Refuse(404, "InvalidAccessKeyId.NotFound")), 2, ["Check the credentials."]),
        (answer(Refuse(503)), 3, ["name the accounts with --account"]),
    ],
    ids=["another account's", "a refused key", "no answer"],
)
def test_a_directory_that_cannot_be_read_is_no_empty_organization(
    cloud: EmulatedCloud,
    spoil: Callable[[EmulatedCloud], None],
    exit_code: int,
    words: list[str],
) -> None:
    """Nothing is swept, and it is said who may list it, or what to check; names do without it."""
    spoil(cloud)

    unknown = run(cloud, *HERE, "--organization", GUARD_MAX_ATTEMPTS="1")
    asked = cloud.tables.requests[:]
    named = run(cloud, *HERE, "--account", FIRST, "--apply")

    assert (unknown.exit_code, asked, named.exit_code) == (exit_code, [], 0)
    assert [each for each in words if each not in unknown.stderr] == []
    assert encrypted(cloud) == {FIRST}


def test_without_its_own_account_a_sweep_of_others_does_not_start(cloud: EmulatedCloud) -> None:
    """It might take a role in its own account."""
    cloud.sts.faults.add(Fault(Refuse(403), operation="GetCallerIdentity"))

    unknown = run(cloud, *HERE, "--account", FIRST)
    known = run(cloud, *HERE, "--account", FIRST, FC_ACCOUNT_ID=ACCOUNT)

    assert (unknown.exit_code, known.exit_code) == (2, 1)
    assert "set FC_ACCOUNT_ID" in unknown.stderr


def test_a_token_that_leads_back_is_an_incomplete_organization() -> None:
    """What was listed is swept; the rest is reported, and the command has not seen everything."""
    members = [Member(f"5555555555555{number:03}") for number in range(101)]
    with emulated_cloud(members=members) as cloud:
        admit(cloud)
        cloud.directory.repeats_token = True
        cloud.tables.plant("orders", account_id=members[-1].account_id, encryption="AES256")

        result = run(cloud, *HERE, "--organization", "--output", "json")

    *rows, totals = objects(result.stdout)
    assert result.exit_code == 3
    assert [(each["kind"], each["reason"]) for each in rows] == [
        ("bucket", "AES256"),
        ("organization", "directory_incomplete"),
    ]
    assert (len(totals["account_ids"]), totals["accounts_not_swept"]) == (102, [])
    assert "the list of accounts is incomplete: there may be more" in result.stderr


@pytest.mark.parametrize(
    ("encryption", "exit_code"), [("AES256", 3), (None, 1)], ids=["well", "open"]
)
def test_an_account_that_is_not_prepared_is_one_row(encryption: str | None, exit_code: int) -> None:
    """With what to do; the others are swept, and STS is asked once."""
    with emulated_cloud(members=[Member(FIRST), Member(SECOND)]) as cloud:
        admit(cloud)
        cloud.sts.plant(Role(FIRST, MEMBER_ROLE, TrustPolicy()))
        cloud.tables.plant("orders", account_id=SECOND, encryption=encryption)

        result = run(cloud, *BOTH, "--organization", "--output", "json")

        asked = [each.resource for each in cloud.sts.requests if each.resource]
    *rows, totals = objects(result.stdout)
    (row,) = [each for each in rows if each["kind"] == "account"]
    assert (row["account"], row["region"], row["reason"]) == (FIRST, None, "not_prepared")
    assert f"Create the role in account {FIRST}; let its trust policy name your" in row["detail"]
    assert (result.exit_code, sorted(asked)) == (exit_code, [FIRST, SECOND])
    assert (totals["account_ids"], totals["accounts_not_swept"]) == ([ACCOUNT, SECOND], [FIRST])
    assert {each["not_listed"] for each in totals["accounts"][FIRST].values()} == {1}
    assert totals["accounts"][SECOND][REGION]["buckets"] == 1
    assert "1 account could not be entered: there may be more" in result.stderr


def test_an_account_that_left_can_be_named(cloud: EmulatedCloud) -> None:
    """It is not prepared: nobody else's bucket is touched."""
    cloud.directory.leave(FIRST)
    cloud.sts.remove(cloud.member_roles[FIRST])

    listed = run(cloud, *HERE, "--organization", "--apply")
    named = run(cloud, *HERE, "--account", FIRST, "--apply")

    assert (listed.exit_code, named.exit_code) == (0, 3)
    assert encrypted(cloud) == {ACCOUNT, SECOND}
    assert "the account is not prepared" in " ".join(named.stdout.split())


def test_trouble_of_sts_is_not_a_missing_preparation(cloud: EmulatedCloud) -> None:
    """The account was not swept, and a later try may succeed."""
    cloud.sts.faults.add(Fault(Refuse(503), resource=FIRST))

    result = run(cloud, *HERE, "--account", FIRST, "--output", "csv", GUARD_MAX_ATTEMPTS="1")

    row, total, everything, end = csv.DictReader(io.StringIO(result.stdout))
    assert (row["kind"], row["account_id"], row["reason"]) == ("account", FIRST, "unavailable")
    assert (total["account_id"], total["detail"]) == (FIRST, "not_listed=1")
    assert everything["region"] == "all"
    assert end["detail"].endswith(f"accounts not swept: {FIRST}")
    assert result.exit_code == 3


def test_who_acts_is_said_with_the_number_of_accounts(cloud: EmulatedCloud) -> None:
    """And with the role that is taken there."""
    role = f"with the role {MEMBER_ROLE}."

    everywhere = run(cloud, *HERE, "--organization", "--apply")
    others = run(cloud, *HERE, "--account", f"{FIRST},{SECOND}", "--apply")
    one = run(cloud, *HERE, "--account", FIRST, "--apply")
    own = run(cloud, *HERE, "--account", ACCOUNT, "--apply")

    assert f", in 3 accounts, in 2 of them {role}" in everywhere.stderr
    assert f", in 2 accounts, {role}" in others.stderr
    assert f", in account {FIRST} {role}" in one.stderr
    assert "of your shell.\n" in own.stderr.replace("the shell", "your shell")


def test_the_deployed_exemptions_count_in_every_account(cloud: EmulatedCloud) -> None:
    """They are those of the hub's function, of which each member is a part."""
    exempt = json.dumps([{"bucket": "ord*", "reason": "a sample"}])
    deploy(cloud, GUARD_EXEMPTIONS=exempt)

    result = run(cloud, *HERE, "--organization", "--as-deployed", "--apply")

    assert (result.exit_code, encrypted(cloud)) == (0, set())
    assert "3 exempt" in result.stderr


def test_a_refusal_in_a_member_is_a_dead_letter_of_the_hub(cloud: EmulatedCloud) -> None:
    """Its function redrives it, with the role of the member; a second sweep writes no other."""
    reader = Policy.of(
        [{"Effect": "Allow", "Action": ["oss:ListTableBuckets", "oss:Get*"], "Resource": "*"}]
    )
    assert OPERATOR.principal
    trust = TrustPolicy.naming([OPERATOR.principal], external_id=EXTERNAL_ID)
    cloud.sts.plant(Role(FIRST, MEMBER_ROLE, trust, reader))

    results = [run(cloud, *HERE, "--account", FIRST, "--apply") for _ in range(2)]

    assert [each.exit_code for each in results] == [1, 1]
    assert len(cloud.queue.bodies(QUEUE)) == 1


# The outputs.


def test_one_account_has_no_column_of_its_own(cloud: EmulatedCloud) -> None:
    """A sweep of the own account looks as it always did, and so does one of another."""
    own = run(cloud, *HERE)
    other = run(cloud, *HERE, "--account", FIRST)

    assert own.stdout.splitlines()[0].split()[0] == "region"
    assert own.stdout == other.stdout


@pytest.mark.parametrize("output", ["json", "csv"])
def test_rows_of_several_accounts_come_in_the_same_order_each_time(
    cloud: EmulatedCloud, output: str
) -> None:
    """By account, then by region; each row has both."""
    for account_id in (SECOND, ACCOUNT, FIRST):
        for region in (THERE, REGION):
            cloud.tables.plant("parts", account_id=account_id, region=region)

    printed = run(cloud, *BOTH, "--organization", "--output", output).stdout

    rows: list[dict[str, Any]] = (
        objects(printed) if output == "json" else list(csv.DictReader(io.StringIO(printed)))
    )
    name = "account" if output == "json" else "account_id"
    places = [(row[name], row["region"]) for row in rows if row["kind"] == "bucket"]
    assert places == sorted(places)
    assert len(places) == 9


IN_BOTH: dict[str, Any] = {"command": BOTH, "key": OPERATOR}


def test_each_form_of_a_report_has_the_accounts(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """Those that were swept, the one that was not entered and why, and the role."""
    cloud.sts.remove(cloud.member_roles[SECOND])

    document = report(cloud, tmp_path, "--organization", **IN_BOTH)

    assert document["account_ids"] == [ACCOUNT, FIRST]
    assert document["accounts_not_swept"] == [SECOND]
    assert document["member_role"] == MEMBER_ROLE
    assert document["regions"][REGION]["buckets"] == 2
    assert document["accounts"][FIRST][REGION]["buckets"] == 1
    page = (tmp_path / "report.html").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text("utf-8"))))
    totals = {(row["account_id"], row["region"]) for row in rows if row["kind"] == "total"}
    assert {(SECOND, REGION), (FIRST, THERE)} <= totals
    for words in (FIRST, SECOND, MEMBER_ROLE, "the account is not prepared"):
        assert words in page
    (row,) = [row for row in rows if row["kind"] == "account"]
    assert (row["account_id"], "Create the role" in row["detail"]) == (SECOND, True)


def test_reports_are_compared_by_account_and_region(cloud: EmulatedCloud, tmp_path: Path) -> None:
    """What one of both did not cover is left out and named; its buckets are not gone."""
    report(cloud, tmp_path / "old", "--organization", **IN_BOTH)
    cloud.sts.remove(cloud.member_roles[SECOND])
    cloud.tables.remove(f"acs:osstables:{REGION}:{FIRST}:bucket/orders")
    again = str(tmp_path / "old" / "report.json")

    new = report(cloud, tmp_path / "new", "--organization", "--compare", again, **IN_BOTH)
    changes = new["changes"]
    shown = run(cloud, *BOTH, "--organization", "--compare", again)

    assert [each["arn"].split(":")[3] for each in changes["gone"]] == [FIRST]
    assert (changes["new"], changes["changed"]) == ([], [])
    assert changes["not_compared"] == [SECOND]
    assert f"0 new, 1 gone, 0 changed; not compared: {SECOND}." in shown.stderr
    assert ["account", "change"] in [line.split()[:2] for line in shown.stdout.splitlines()]
