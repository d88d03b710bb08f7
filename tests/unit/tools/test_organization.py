"""The accounts that a deployment guards, and how many calls share their sweep."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from layers.encryption_guard.tools.configuration import SHARES
from layers.encryption_guard.tools.organization import (
    Guarded,
    check_accounts,
    check_instances,
    count_shares,
    template_variables,
)

OWN = "1234567890123456"
SETTINGS = {"GUARD_ACCOUNTS": "organization", "GUARD_ACCOUNTS_PER_SHARE": "10"}
RESERVED = "ENCRYPTION_GUARD_SWEEP_CONCURRENCY"
FOR_EVENTS = "ENCRYPTION_GUARD_EVENT_CONCURRENCY"
UNKNOWN = Guarded((OWN,), "ListAccounts answered 403 NoPermission.")


def guarded(number: int) -> Guarded:
    """So many accounts, the own one among them."""
    return Guarded((OWN, *(f"{10000 + each}" for each in range(number - 1))))


@pytest.mark.parametrize(
    ("accounts", "per_share", "shares", "reserved", "for_events"),
    [
        *((1, 10, 1, 2, 5), (10, 10, 1, 2, 5), (11, 10, 2, 4, 10), (100, 10, 10, 12, 50)),
        *((200, 10, 20, 22, 50), (3, 1, 3, 5, 15), (0, 10, 1, 2, 5)),
    ],
)
def test_each_share_has_an_instance_and_two_are_for_overlaps(
    accounts: int, per_share: int, shares: int, reserved: int, for_events: int
) -> None:
    """Where one call sweeps all accounts, it is as for one account; events get five a share."""
    settings = {**SETTINGS, "GUARD_ACCOUNTS_PER_SHARE": str(per_share)}
    listed = guarded(accounts) if accounts else Guarded(())

    assert count_shares(settings, listed) == shares
    assert template_variables({**settings, SHARES: str(shares)}) == {
        RESERVED: str(reserved),
        FOR_EVENTS: str(for_events),
    }


def test_a_stated_number_of_instances_counts() -> None:
    """Also where nobody knows the accounts: then it tells the number of shares."""
    stated = {**SETTINGS, "GUARD_SWEEP_CONCURRENCY": "7"}

    assert template_variables({**stated, SHARES: "2"})[RESERVED] == "7"
    assert count_shares(stated, guarded(11)) == 2
    assert count_shares(stated, UNKNOWN) == 5
    assert count_shares({**stated, "GUARD_SWEEP_CONCURRENCY": "1"}, UNKNOWN) == 1
    assert count_shares(SETTINGS, UNKNOWN) == 1


def found(
    settings: Mapping[str, str], accounts: Guarded, *, is_plan: bool = False
) -> list[tuple[str, str]]:
    """The level and the message of each finding, for the number of shares that there are."""
    counted = {**settings, SHARES: str(count_shares(settings, accounts))}
    findings = check_accounts(counted, accounts, is_plan=is_plan)
    return [(each.level, each.message) for each in findings]


def test_the_accounts_and_their_shares_are_named() -> None:
    """An account alone is not; an entry that is left out is a warning."""
    assert found({"GUARD_ACCOUNTS": "", "GUARD_ACCOUNTS_PER_SHARE": "10"}, guarded(1)) == []
    assert found(SETTINGS, guarded(2)) == [
        ("ok", f"Guards 2 accounts, in 1 share of at most 10: {OWN}, 10000")
    ]
    ((_, message), left_out) = found(SETTINGS, guarded(11)._replace(incomplete=("No id.",)))
    assert message.startswith("Guards 11 accounts, in 2 shares of at most 10: ")
    assert left_out == ("warning", "No id.")


@pytest.mark.parametrize(("stated", "is_enough"), [("1", False), ("2", True), ("9", True)])
def test_fewer_instances_than_shares_are_an_error(stated: str, *, is_enough: bool) -> None:
    """With both numbers; a share that waits for an instance is superseded by the next minute."""
    settings = {**SETTINGS, "GUARD_SWEEP_CONCURRENCY": stated}

    ((_, message), *errors) = found(settings, guarded(11))

    assert message.startswith("Guards 11 accounts")
    expected = ("error", f"GUARD_SWEEP_CONCURRENCY is {stated}, but 11 accounts are 2 shares")
    assert errors == ([] if is_enough else [expected])


@pytest.mark.parametrize(
    ("shares", "stated", "numbers"),
    [
        ("48", "", None),
        ("49", "", "101 instances are reserved, 51 for sweeps and 50 for events"),
        ("2", "90", None),
        ("2", "91", "101 instances are reserved, 91 for sweeps and 10 for events"),
    ],
)
def test_more_instances_than_an_account_has_are_a_warning(
    shares: str, stated: str, numbers: str | None
) -> None:
    """Its quota may have been raised; the message has all numbers, and what to do."""
    found = check_instances({**SETTINGS, SHARES: shares, "GUARD_SWEEP_CONCURRENCY": stated})

    if numbers is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.level, finding.message.startswith(numbers)) == ("warning", True)
    assert "a larger GUARD_ACCOUNTS_PER_SHARE" in finding.remedy


def test_unknown_accounts_stop_a_deployment() -> None:
    """Not a plan, and not one that states how many instances are enough."""
    message = f"The accounts of organization are not known to this key: {UNKNOWN.problem}"

    assert found(SETTINGS, UNKNOWN) == [("error", message)]
    assert found(SETTINGS, UNKNOWN, is_plan=True) == [("warning", message)]
    assert found({**SETTINGS, "GUARD_SWEEP_CONCURRENCY": "7"}, UNKNOWN) == [("warning", message)]
