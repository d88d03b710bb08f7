"""Which accounts a deployment covers, which of them it cannot enter, and whether it has the room.

Only the function's own role can find out whether it may enter an account: the trust policy of a
member role names it, and not the operator. So this reads what the sweeps have logged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from encryption_guard.cli.accounts import Choice
from encryption_guard.cli.last_sweep import LOOKBACK, MAX_LINES, LeftOut
from encryption_guard.enforcement.policy import own_accounts
from encryption_guard.errors import ConfigurationError, GuardError
from encryption_guard.invocation import Invocation
from encryption_guard.services.directory import AccountList, list_accounts
from encryption_guard.settings import ORGANIZATION, FunctionArn, Settings
from encryption_guard.sweep.accounts import LIST_SECONDS
from encryption_guard.untrusted import object_or_empty

if TYPE_CHECKING:
    from encryption_guard.services.function_compute import FunctionCompute

# The settings of the function that decide about its accounts and their shares.
NAMES: Final = ("GUARD_ACCOUNTS", "GUARD_ALLOWED_ACCOUNTS", "GUARD_ACCOUNTS_PER_SHARE")
# More accounts are counted in a sentence.
MAX_NAMED: Final = 10

LeftOutReader = Callable[[Invocation, Mapping[str, Any], str], Sequence[LeftOut]]


@dataclass(slots=True)
class Organization:
    """The accounts of the organization, read with the operator's key once for all regions."""

    invocation: Invocation
    _found: AccountList | GuardError | None = None

    def read(self) -> AccountList:
        """Return the accounts; raises what `directory.list_accounts` raises."""
        if self._found is None:
            try:
                self._found = list_accounts(self.invocation.within(LIST_SECONDS))
            except GuardError as error:
                self._found = error
        if isinstance(self._found, GuardError):
            raise self._found
        return self._found


@dataclass(slots=True)
class Coverage:
    """Reads the accounts of one deployed sweep function, and collects what is wrong with them."""

    invocation: Invocation
    client: FunctionCompute
    sweep: FunctionArn
    organization: Organization
    choice: Choice
    read_left_out: LeftOutReader
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    # The accounts that the function sweeps; empty if they are not known.
    account_ids: tuple[str, ...] = ()

    def read(self, function: Mapping[str, Any]) -> str:
        """Return how many accounts the function sweeps, and of these how many are not prepared."""
        variables = object_or_empty(function.get("environmentVariables"))
        given = {name: str(variables.get(name) or "") for name in NAMES}
        own = str(self.sweep.account_id)
        try:
            settings = Settings.from_environment({**given, "FC_ACCOUNT_ID": own})
        except ConfigurationError as error:
            self.problems.append(f"The functions do not start. {error}")
            return "unknown"
        covered = self._covered(settings)
        self._check_choice(covered, settings)
        if covered is None:
            return ORGANIZATION
        self.account_ids = covered
        if len(covered) == 1:
            return "1"
        self._check_shares(len(covered), settings.accounts_per_share)
        closed = self._read_left_out(function)
        more = " or more" if len(closed) >= MAX_LINES else ""
        return f"{len(covered)}{f' ({len(closed)}{more} not prepared)' if closed else ''}"

    def _covered(self, settings: Settings) -> tuple[str, ...] | None:
        """Return the accounts that the function sweeps, or None if they are not known."""
        listed = settings.accounts
        if listed == ORGANIZATION:
            found = self._listed()
            if found is None:
                return None
            listed = frozenset(found)
        others = sorted(listed - own_accounts(settings))
        return (str(settings.account_id), *others)

    def _listed(self) -> tuple[str, ...] | None:
        try:
            found = self.organization.read()
        except GuardError as error:
            self._add_unread(error)
            return None
        for problem in found.problems:
            self._add_unread(problem)
        return found.account_ids

    def _check_choice(self, covered: Sequence[str] | None, settings: Settings) -> None:
        """Name the chosen accounts that the deployment does not cover."""
        chosen = self._listed() if self.choice.organization else self.choice.account_ids
        if covered is None or not chosen:
            return
        missing = [each for each in chosen if each not in {*covered, *settings.allowed_accounts}]
        if missing:
            add = (
                "they are not in the organization"
                if settings.accounts == ORGANIZATION
                else "add them to GUARD_ACCOUNTS, and run `make deploy`"
            )
            self.problems.append(f"Accounts are not covered ({_names(missing)}): {add}.")

    def _check_shares(self, accounts: int, per_share: int) -> None:
        """Compare the instances that the function may have with its shares."""
        shares = math.ceil(accounts / per_share)
        if shares == 1:
            return
        try:
            found = self.client.read_concurrency(self.sweep).get("reservedConcurrency")
        except GuardError as error:
            self._add_unread(error)
            return
        reserved = found if isinstance(found, int) else 0
        if reserved < shares:
            self.problems.append(
                f"{self.sweep.name} sweeps {accounts} accounts in {shares} shares at once, and"
                f" {reserved} instances are reserved for it: raise its reserved concurrency to"
                f" {shares}, or GUARD_ACCOUNTS_PER_SHARE."
            )

    def _read_left_out(self, function: Mapping[str, Any]) -> list[str]:
        """Return the accounts that the last sweeps could not enter, and name them."""
        try:
            found = self.read_left_out(self.invocation, function, str(self.sweep.region))
        except GuardError as error:
            self._add_unread(error)
            return []
        chosen = self.choice.account_ids
        closed = sorted({each.account_id for each in found if each.reason == "not_prepared"})
        closed = [each for each in closed if not chosen or each in chosen]
        if closed:
            self.problems.append(
                f"Accounts are not prepared, by the sweeps of the last {LOOKBACK // 60} minutes"
                f" ({_names(closed)}): the line `sweep finding` of each says what to do."
            )
        lists = {each.detail: None for each in found if each.reason != "not_prepared"}
        self.problems += [f"The last sweeps do not know every account. {each}" for each in lists]
        return closed

    def _add_unread(self, why: GuardError | str) -> None:
        if str(why) not in self.unread:
            self.unread.append(str(why))


def describe_unswept(account_ids: Sequence[str], swept: frozenset[str]) -> str | None:
    """Return a sentence about the accounts that no share has swept; None if all were swept."""
    unswept = [each for each in account_ids if each not in swept]
    if not swept or not unswept:
        return None
    return (
        f"No share of the last {LOOKBACK // 60} minutes has swept these accounts"
        f" ({_names(unswept)}): lines of the kind `share` in the log of the sweep function say why."
    )


def _names(account_ids: Sequence[str]) -> str:
    shown, more = account_ids[:MAX_NAMED], len(account_ids[MAX_NAMED:])
    return f"{', '.join(shown)}{f' and {more} more' if more else ''}"
