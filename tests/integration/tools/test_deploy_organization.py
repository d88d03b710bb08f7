"""`make deploy` and `make plan` for an organization: its accounts and their shares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.emulators.cloud import ACCOUNT
from tests.emulators.resource_directory import Member
from tests.emulators.serverless_devs import MISSING
from tests.integration.tools.test_deploy import (
    HERE,
    SWEEP,
    Deployer,
    checkout,
    deployer,
    nobodys_shell,
)

__all__ = ["checkout", "deployer", "nobodys_shell"]
pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.usefixtures("checkout"),
]
FIRST, SECOND, THIRD = (str(each) * 16 for each in (2, 3, 4))
ORGANIZATION = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_ACCOUNTS_PER_SHARE": "2",
    "GUARD_EXTERNAL_ID": f"guard-of:{ACCOUNT}",
}


def reserved(deployer: Deployer) -> int:
    """The instances that are reserved for the sweep function."""
    sweep = deployer.place("cn-hangzhou")["functions"][SWEEP]
    number: int = sweep["concurrencyConfig"]["reservedConcurrency"]
    return number


def test_the_accounts_are_named_and_each_share_has_an_instance(deployer: Deployer) -> None:
    """A plan names them before, and after one has joined says what that changes and costs."""
    deployer.members = [Member(FIRST), Member(SECOND), Member(THIRD, deletion="Deleting")]
    planned = deployer("plan", *HERE, **ORGANIZATION)
    deployed = deployer("deploy", *HERE, **ORGANIZATION)
    deployer.members = [Member(FIRST), Member(SECOND), Member(THIRD), Member("55555555")]
    again = deployer("plan", *HERE)
    asked = deployer("deploy", *HERE)

    assert [each.exit_code for each in (planned, deployed, again, asked)] == [0, 0, 0, 1]
    for each in (planned, deployed):
        named = f"Guards 3 accounts, in 2 shares of at most 2: {ACCOUNT}, {FIRST}, {SECOND}\n"
        assert named in each.output, each.output
    assert reserved(deployer) == 4
    assert deployer.sweep_size() == (0.1, 128)
    assert "Guards 5 accounts, in 3 shares of at most 2" in again.output
    assert re.search(r"ENCRYPTION_GUARD_SHARES +2 -> 3", again.output)
    assert re.search(r"reservedConcurrency +4 -> 5", again.output)
    assert re.search(r"about \d+\.\d\d USD a month instead of \d+\.\d\d", asked.output)
    variables = deployer.settings("cn-hangzhou")
    assert variables.items() >= ORGANIZATION.items()


def test_fewer_instances_than_shares_stop_it(deployer: Deployer) -> None:
    """Before anything is started, with both numbers; enough of them are reserved as stated."""
    deployer.members = [Member(FIRST), Member(SECOND)]

    refused = deployer("deploy", *HERE, **ORGANIZATION, GUARD_SWEEP_CONCURRENCY="1")
    before = deployer.s.account()["regions"]
    done = deployer("deploy", *HERE, **ORGANIZATION, GUARD_SWEEP_CONCURRENCY="3")

    assert (refused.exit_code, before) == (2, {})
    assert "GUARD_SWEEP_CONCURRENCY is 1, but 3 accounts are 2 shares" in refused.output
    assert "Nothing was started" in refused.output
    assert (done.exit_code, reserved(deployer)) == (0, 3), done.output


def test_a_list_that_is_too_long_stops_it(deployer: Deployer) -> None:
    """A function's variables have no room for it; all of the organization have a short name."""
    listed = ",".join(f"{10**15 + each}" for each in range(240))

    result = deployer("deploy", *HERE, GUARD_ACCOUNTS=listed)

    assert result.exit_code == 2, result.output
    assert re.search(f"The variables of {SWEEP} have [0-9,]+ bytes, 4,096 are", result.output)
    assert "set it to `organization`" in result.output
    assert deployer.s.account()["regions"] == {}


def test_fewer_accounts_have_to_be_wanted(deployer: Deployer) -> None:
    """Their buckets would stay open, so it asks; a file states the accounts too."""
    deployer.members = [Member(FIRST), Member(SECOND)]
    Path("guard.toml").write_text('accounts = "organization"\naccounts_per_share = 20\n')
    first = deployer("deploy", *HERE)
    Path("guard.toml").write_text(f'accounts = ["{FIRST}"]\n')
    asked = deployer("deploy", *HERE)
    done = deployer("deploy", *HERE, "--yes")

    assert [each.exit_code for each in (first, asked, done)] == [0, 1, 0], done.output
    assert f"buckets of accounts of the organization other than {FIRST}" in asked.output
    assert f"Guards 2 accounts, in 1 share of at most 20: {ACCOUNT}, {FIRST}" in done.output
    assert (deployer.settings("cn-hangzhou")["GUARD_ACCOUNTS"], reserved(deployer)) == (FIRST, 2)
