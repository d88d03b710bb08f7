"""`encryption-guard status` of a deployment that covers several accounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result

from encryption_guard.cli.status import CREATE, SWEEP
from encryption_guard.invocation import Clock
from tests.emulators.cloud import ACCOUNT, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Effect, Fault, GarbageBody, Refuse
from tests.emulators.operators_shell import invoke
from tests.emulators.resource_directory import Member
from tests.integration.cli.test_status import change
from tests.unit.sweep.sweeps import FIRST, SECOND

MANY = [f"55555555555555{number:02}" for number in range(20)]


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    """A deployment for two members, whose last sweep ended a minute ago."""
    with emulated_cloud(members=[Member(FIRST), Member(SECOND)]) as cloud:
        cover(cloud, f"{FIRST},{SECOND}")
        finished = {"message": "sweep finished", "ok": True}
        cloud.log.log(SWEEP, finished, at=Clock().now().timestamp() - 65)
        yield cloud


def cover(cloud: EmulatedCloud, accounts: str, **variables: str) -> None:
    for name in (CREATE, SWEEP):
        change(cloud, name, GUARD_ACCOUNTS=accounts, **variables)


def reserve(cloud: EmulatedCloud, concurrency: dict[str, object] | None) -> None:
    deployed = replace(cloud.api.deployed[SWEEP], concurrency=concurrency)
    cloud.api.deployed[SWEEP] = deployed


def find(cloud: EmulatedCloud, account_id: str, reason: str, *, minutes: float = 1) -> None:
    """Let the sweep have logged a line about an account."""
    at = Clock().now().timestamp() - 60 * minutes
    line = {"message": "sweep finding", "account": account_id, "reason": reason}
    cloud.log.log(SWEEP, line | {"detail": "The directory is not yours."}, at=at)


def status(cloud: EmulatedCloud, *arguments: str, **rest: Any) -> Result:
    return invoke(cloud, "status", "--region", REGION, *arguments, **rest)


def accounts(result: Result) -> str:
    """The cell of the column."""
    head, row = result.stdout.splitlines()
    start = head.index("accounts")
    end = head.index("timer")
    return row[start:end].strip()


def test_the_line_has_the_number_of_accounts(cloud: EmulatedCloud) -> None:
    """With that of the deployment itself; where all is well nothing else is said."""
    result = status(cloud)

    assert accounts(result) == "3"
    assert (result.exit_code, result.stderr) == (0, "")
    assert cloud.directory.requests == []


def test_the_organization_is_asked_once_for_all_regions(cloud: EmulatedCloud) -> None:
    """With the key of the operator."""
    cover(cloud, "organization")

    result = invoke(cloud, "status", "--region", f"{REGION},cn-shanghai", "--output", "json")

    assert [json.loads(line)["accounts"] for line in result.stdout.splitlines()] == ["3", "3"]
    assert len(cloud.directory.requests) == 1


INCOMPLETE = GarbageBody(b'{"Accounts": {"Account": [{"AccountId": "x"}]}}')


@pytest.mark.parametrize(
    ("covered", "service", "fault", "shown", "said"),
    [
        ("organization", "directory", Refuse(403), "organization", "resourcemanager:ListAccounts"),
        ("organization", "directory", Refuse(503), "organization", "a later try may succeed"),
        # There may be accounts that nobody sees.
        ("organization", "directory", INCOMPLETE, "1", "has no account id"),
        # Although two questions were asked.
        (f"{FIRST},{SECOND}", "log", GarbageBody(b"<html>"), "3", "gave an unreadable answer"),
        (",".join(MANY), "api", Refuse(403), "21", "fc:GetConcurrencyConfig"),
    ],
    ids=["no right", "no answer", "an incomplete list", "the log", "the concurrency"],
)
def test_what_cannot_be_read_is_not_known(
    cloud: EmulatedCloud, covered: str, service: str, fault: Effect, shown: str, said: str
) -> None:
    """It is asked once, all the same, and the reason is said once."""
    cover(cloud, covered)
    operation = "GetConcurrencyConfig" if service == "api" else "*"
    getattr(cloud, service).faults.add(Fault(fault, operation=operation))

    chosen = ("--organization",) if covered == "organization" else ()
    result = status(cloud, "--output", "json", *chosen, GUARD_MAX_ATTEMPTS="1")

    assert (result.exit_code, json.loads(result.stdout)["accounts"]) == (3, shown)
    assert result.stderr.count(said) == 1
    assert len(cloud.directory.requests) == (covered == "organization")


@pytest.mark.parametrize(
    ("spoil", "shown", "said"),
    [
        # The sweep would not find what events miss.
        (
            lambda cloud: change(cloud, CREATE, GUARD_ACCOUNTS=""),
            "3",
            f"differ in GUARD_ACCOUNTS (none | {FIRST},{SECOND})",
        ),
        # Each of its invocations fails with the same sentence.
        (
            lambda cloud: cover(cloud, "12"),
            "unknown",
            'The functions do not start. GUARD_ACCOUNTS is "12"',
        ),
    ],
    ids=["different", "wrong"],
)
def test_the_settings_of_the_functions_may_be_the_problem(
    cloud: EmulatedCloud, spoil: Callable[[EmulatedCloud], None], shown: str, said: str
) -> None:
    """It is named with their values."""
    spoil(cloud)

    result = status(cloud)

    assert (result.exit_code, accounts(result)) == (1, shown)
    assert said in result.stderr


def test_accounts_that_the_sweeps_could_not_enter_are_named(cloud: EmulatedCloud) -> None:
    """By what the function itself has logged in the last ten minutes; each once."""
    for minutes in (1, 2, 3):
        find(cloud, SECOND, "not_prepared", minutes=minutes)
    find(cloud, FIRST, "not_prepared", minutes=11)
    find(cloud, FIRST, "unavailable")

    result = status(cloud)
    of_the_other = status(cloud, "--account", FIRST)

    assert (result.exit_code, accounts(result)) == (1, "3 (1 not prepared)")
    assert "Accounts are not prepared, by the sweeps of the last 10 minutes" in result.stderr
    assert f"({SECOND})" in result.stderr
    assert (of_the_other.exit_code, accounts(of_the_other)) == (0, "3")


def test_more_lines_than_the_service_returns_are_a_least_number(cloud: EmulatedCloud) -> None:
    """A sentence names ten accounts, and counts the others."""
    for number in range(110):
        find(cloud, f"5555555555555{number:03}", "not_prepared")

    result = status(cloud)

    assert accounts(result) == "3 (100 or more not prepared)"
    assert " and 90 more): the line" in result.stderr


@pytest.mark.parametrize("reason", ["directory_unreadable", "directory_incomplete"])
def test_a_list_that_the_sweeps_could_not_read_is_said(cloud: EmulatedCloud, reason: str) -> None:
    """In the words of the function."""
    find(cloud, ACCOUNT, reason)
    find(cloud, ACCOUNT, reason, minutes=2)

    result = status(cloud)

    assert result.exit_code == 1
    assert result.stderr.count("do not know every account. The directory is not yours.") == 1


@pytest.mark.parametrize(
    ("per_share", "reserved", "said"),
    [
        ("", {"reservedConcurrency": 3}, None),
        ("", {"reservedConcurrency": 2}, "21 accounts in 3 shares at once, and 2 instances"),
        ("", None, "21 accounts in 3 shares at once, and 0 instances"),
        ("21", None, None),
        ("5", {"reservedConcurrency": 4}, "in 5 shares at once, and 4 instances"),
    ],
)
def test_the_reserved_instances_have_to_suffice_for_the_shares(
    cloud: EmulatedCloud, per_share: str, reserved: dict[str, object] | None, said: str | None
) -> None:
    """Fewer is a problem, named with what to do; one share needs none."""
    cover(cloud, ",".join(MANY), GUARD_ACCOUNTS_PER_SHARE=per_share)
    reserve(cloud, reserved)

    result = status(cloud)

    assert accounts(result) == "21"
    assert (result.exit_code, result.stderr == "") == ((1, False) if said else (0, True))
    assert said is None or said in result.stderr


@pytest.mark.parametrize(
    ("covered", "arguments", "said"),
    [
        # By its events, although it is not one of the accounts that are swept.
        ("allowed", ("--account", SECOND), None),
        (FIRST, ("--account", f"{FIRST},{ACCOUNT}"), None),
        (FIRST, ("--account", SECOND), f"not covered ({SECOND}): add them to GUARD_ACCOUNTS"),
        (FIRST, ("--organization",), f"not covered ({SECOND}): add them to GUARD_ACCOUNTS"),
        ("", ("--organization",), f"not covered ({FIRST}, {SECOND})"),
        ("organization", ("--organization",), None),
        ("organization", ("--account", "9999999999999999"), "they are not in the organization"),
    ],
)
def test_chosen_accounts_have_to_be_covered(
    cloud: EmulatedCloud, covered: str, arguments: tuple[str, ...], said: str | None
) -> None:
    """Each that the deployment does not cover is named, with what to do."""
    if covered == "allowed":
        cover(cloud, FIRST, GUARD_ALLOWED_ACCOUNTS=SECOND)
    else:
        cover(cloud, covered)

    result = status(cloud, *arguments)

    assert (result.exit_code, said is None) in ((1, False), (0, True))
    assert said is None or said in result.stderr


def test_without_the_sweep_function_nothing_is_known_of_accounts(cloud: EmulatedCloud) -> None:
    """It is missing, which is said."""
    del cloud.api.deployed[SWEEP]

    result = status(cloud, "--output", "json")

    assert json.loads(result.stdout)["accounts"] is None


def test_contradicting_options_are_misuse(cloud: EmulatedCloud) -> None:
    """Nothing is asked."""
    result = status(cloud, "--organization", "--account", FIRST)

    assert (result.exit_code, cloud.api.requests) == (2, [])


def test_a_deployment_for_one_account_has_no_column(cloud: EmulatedCloud) -> None:
    """JSON has the number all the same."""
    cover(cloud, "")

    table, document = status(cloud), status(cloud, "--output", "json")

    assert "accounts" not in table.stdout.splitlines()[0].split()
    assert json.loads(document.stdout)["accounts"] == "1"


def log_share(cloud: EmulatedCloud, *account_ids: str, seconds: float, ok: bool = True) -> None:
    """Let a share of these accounts have ended so many seconds ago."""
    line = {"message": "sweep finished", "ok": ok, "share": "a-share", "accounts": account_ids}
    cloud.log.log(SWEEP, line, at=Clock().now().timestamp() - seconds)


def last_sweep(cloud: EmulatedCloud) -> tuple[str, list[str]]:
    """What the status says of the last sweep, and the problems."""
    (line,) = status(cloud, "--output", "json").stdout.splitlines()
    told = json.loads(line)
    return told["last_sweep"], told["problems"]


def test_one_share_with_problems_is_a_problem(cloud: EmulatedCloud) -> None:
    """Although another share ended later, and found everything encrypted."""
    log_share(cloud, FIRST, ACCOUNT, seconds=40, ok=False)
    log_share(cloud, SECOND, seconds=20)

    said, problems = last_sweep(cloud)

    assert said == "0 min ago, problems"
    assert len(problems) == 1


def test_what_was_corrected_since_is_no_problem(cloud: EmulatedCloud) -> None:
    """Of each account the last sweep counts."""
    log_share(cloud, FIRST, ACCOUNT, SECOND, seconds=50, ok=False)
    log_share(cloud, FIRST, SECOND, seconds=40)
    log_share(cloud, ACCOUNT, seconds=30)

    assert last_sweep(cloud) == ("0 min ago", [])


def test_accounts_that_no_share_has_swept_are_named(cloud: EmulatedCloud) -> None:
    """Within ten minutes: their share was lost again and again."""
    log_share(cloud, SECOND, seconds=700)
    log_share(cloud, ACCOUNT, FIRST, seconds=40)

    _, (problem,) = last_sweep(cloud)

    assert SECOND in problem
    assert "No share of the last 10 minutes has swept" in problem


def test_so_many_shares_that_not_all_are_shown_are_not_held_to_be_lost(
    cloud: EmulatedCloud,
) -> None:
    """A query of the log has a hundred lines."""
    for _ in range(100):
        log_share(cloud, FIRST, seconds=40)

    assert last_sweep(cloud) == ("0 min ago", [])
