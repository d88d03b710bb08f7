"""The rights for other accounts, in the guard's own account and in theirs: none more, none less.

The functions do in another account everything that they can. `test_policies.py` has the rights for
the own account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from encryption_guard.settings import ORGANIZATION
from tests.emulators.cloud import (
    AUDITING,
    NOT_AUDITING,
    ROLE,
    deployed_role,
    member_role,
)
from tests.emulators.ram_policies import Policy, Statement
from tests.integration.test_policies import (
    ENCRYPTED,
    FUNCTIONS,
    PUT,
    TOO_MUCH,
    Run,
    run_with,
    without,
)

MEMBER = "2222222222222222"
ASSUME_ROLE, LIST_ACCOUNTS = "sts:AssumeRole", "resourcemanager:ListAccounts"
FOR_OTHERS = frozenset({ASSUME_ROLE, LIST_ACCOUNTS})
# The timer's call makes it for the shares, and one other account is no reason for shares.
CALLS_ITSELF = "fc:InvokeFunction"
SETTINGS: dict[str, Mapping[str, str]] = {
    "an organization with the audit": {**AUDITING, "GUARD_ACCOUNTS": ORGANIZATION},
    "an organization without the audit": {**NOT_AUDITING, "GUARD_ACCOUNTS": ORGANIZATION},
    "an organization by default": {"GUARD_ACCOUNTS": ORGANIZATION},
    "a listed account": {**AUDITING, "GUARD_ACCOUNTS": MEMBER},
}
AUDITED = "an organization with the audit"


def run(
    function: str, settings: str, here: Policy | None = None, there: Policy | None = None
) -> Run:
    """The function's scenario in the member's account, with these policies instead."""
    return run_with(function, tuple(SETTINGS[settings].items()), here, there, MEMBER)


def policy_there(settings: str) -> Policy:
    """What member.yaml grants the member's role."""
    policy = member_role(MEMBER, ROLE, environment=SETTINGS[settings]).policy
    assert policy is not None
    return policy


def policy_here(function: str, settings: str) -> Policy:
    """What template.yaml grants the function's role."""
    policy = deployed_role(function, SETTINGS[settings]).policy
    assert policy is not None
    return policy


def complaints(settings: str, there: Policy | None = None) -> list[str]:
    """What is wrong with a policy of the member's role, or with its own: both functions take it."""
    runs = [run(function, settings, there=there) for function in FUNCTIONS]
    used = frozenset[str]().union(*(each.used_there for each in runs))
    missing = frozenset[str]().union(*(each.missing_there for each in runs))
    never_used = (there or policy_there(settings)).granted - used
    found = [f"{action} is granted and never used" for action in sorted(never_used)]
    found += [f"{action} is used and not granted" for action in sorted(missing)]
    ended = [each.encrypted == ENCRYPTED for each in runs]
    return found if all(ended) else [*found, f"it ended as it should not: {runs}"]


each_setting = pytest.mark.parametrize("settings", SETTINGS)


@each_setting
def test_what_a_member_grants_is_what_is_done_there(settings: str) -> None:
    """Both functions together use every right that the member's role has, and lack none."""
    assert complaints(settings) == []


@pytest.mark.parametrize("function", FUNCTIONS)
@each_setting
def test_each_function_may_enter_the_accounts_that_it_guards(function: str, settings: str) -> None:
    """It takes the role, lists the accounts only of an organization, and has no other right."""
    ran = run(function, settings)
    granted = policy_here(function, settings).granted

    assert ran.used & FOR_OTHERS == granted & FOR_OTHERS
    assert (LIST_ACCOUNTS in granted) is (SETTINGS[settings]["GUARD_ACCOUNTS"] == ORGANIZATION)
    assert (set(ran.missing), set(ran.encrypted)) == (set(), ENCRYPTED)
    assert (CALLS_ITSELF in granted) is (function == "sweep" and LIST_ACCOUNTS in granted)


@pytest.mark.slow
@pytest.mark.parametrize("action", sorted(FOR_OTHERS))
def test_one_right_less_keeps_the_guard_out(action: str) -> None:
    """Without the one the roles stay closed, without the other nobody knows the accounts."""
    ran = run("sweep", AUDITED, without(policy_here("sweep", AUDITED), action))

    assert (set(ran.missing), set(ran.encrypted)) == ({action}, set())


@pytest.mark.slow
def test_a_right_to_another_role_is_none() -> None:
    """The right to take a role is checked against that role."""
    policy = policy_here("encrypt_on_create", AUDITED)
    elsewhere = tuple(
        replace(one, resources=("acs:ram::*:role/another",)) if ASSUME_ROLE in one.actions else one
        for one in policy.statements
    )

    ran = run("encrypt_on_create", AUDITED, Policy(elsewhere))

    assert (set(ran.missing), set(ran.encrypted)) == ({ASSUME_ROLE}, set())


@pytest.mark.slow
def test_a_right_more_or_less_in_a_member_is_reported() -> None:
    """An action that its role gains is never used; of one that it loses a call is refused."""
    more = Statement("Allow", (TOO_MUCH,), ("acs:osstables:*:*:bucket/nobodys",))
    less = without(policy_there(AUDITED), f"oss:{PUT}")

    found = complaints(AUDITED, Policy((*less.statements, more)))

    assert {
        f"{TOO_MUCH} is granted and never used",
        f"oss:{PUT} is used and not granted",
    } <= {*found}
