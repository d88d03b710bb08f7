"""The options that choose accounts, and the accounts that a command enters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from encryption_guard.arn import ACCOUNT_ID
from encryption_guard.cli.console import misuse
from encryption_guard.enforcement import keep_members
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.directory import DirectoryRefused
from encryption_guard.services.sts import Caller
from encryption_guard.settings import ORGANIZATION, VARIABLES, Settings
from encryption_guard.sweep.accounts import (
    LIST_SECONDS,
    Enter,
    SweptAccounts,
    accounts_to_sweep,
    enter_members,
    enter_own,
)
from encryption_guard.sweep.findings import Finding

if TYPE_CHECKING:
    from encryption_guard.enforcement.members import Members

Command = Callable[..., Any]
Find = Callable[[], tuple[Caller | None, str]]


def _split(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    account_ids = [account_id.strip() for each in given for account_id in each.split(",")]
    for account_id in account_ids:
        if not re.fullmatch(ACCOUNT_ID, account_id, re.ASCII):
            raise click.BadParameter(f"{account_id!r} is not an account ID of 5 to 20 digits.")
    return tuple(dict.fromkeys(account_ids))


def _role(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    variable = VARIABLES["member_role"]
    try:
        return None if given is None else str(variable.read(given))
    except ValueError:
        raise click.BadParameter(f"{given!r} is not {variable.allowed}.") from None


def account_options(verb: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --organization and --account, with this verb in their help."""
    every = click.option(
        "--organization",
        is_flag=True,
        help=f"{verb} every account of the resource directory, and your own.",
    )
    some = click.option(
        "--account",
        "account_ids",
        metavar="ID[,ID]",
        multiple=True,
        callback=_split,
        help=f"{verb} this account, and your own only if you name it; repeat the option for more"
        " accounts. Default: your own account, and those of GUARD_ACCOUNTS.",
    )
    return lambda command: every(some(command))


role_option = click.option(
    "--role",
    metavar="NAME",
    callback=_role,
    help="Take this role in other accounts than your own. Default: GUARD_MEMBER_ROLE.",
)


class Choice(NamedTuple):
    """The accounts that an operator chose; without options, the settings choose."""

    organization: bool = False
    account_ids: tuple[str, ...] = ()

    def check(self) -> None:
        """Exit if the options contradict each other."""
        if self.organization and self.account_ids:
            misuse("Use either --organization or --account, not both.")

    def apply(self, settings: Settings) -> Settings:
        """Return the settings with the chosen accounts."""
        if self.organization:
            return settings._replace(accounts=ORGANIZATION)
        if self.account_ids:
            return settings._replace(accounts=frozenset(self.account_ids))
        return settings


@dataclass(frozen=True, slots=True)
class ChosenAccounts:
    """The accounts of one command, how they are entered, and what is wrong with their list.

    `account_ids` has None for an own account that is not known: it is then the only one.
    """

    settings: Settings
    account_ids: Sequence[str | None]
    enter: Enter = enter_own
    problems: Sequence[Finding] = field(default_factory=tuple)

    @property
    def others(self) -> list[str]:
        """The accounts that are entered with the member role."""
        return [each for each in self.account_ids if each and each != self.settings.account_id]

    @property
    def phrase(self) -> str:
        """Where the command acts, to be added to who acts; empty for its own account."""
        if not self.others:
            return ""
        role = f"with the role {self.settings.member_role}"
        if len(self.account_ids) == 1:
            return f", in account {self.others[0]} {role}"
        whole = len(self.others) == len(self.account_ids)
        share = role if whole else f"in {len(self.others)} of them {role}"
        return f", in {len(self.account_ids)} accounts, {share}"


def choose_accounts(invocation: Invocation, choice: Choice, find: Find) -> ChosenAccounts:
    """Return the accounts of a command; `find` returns the caller, and is called if it is needed.

    Raises ConfigurationError if the own account or the organization cannot be read, and Unavailable
    if a later attempt may succeed.
    """
    settings = choice.apply(invocation.settings)
    if not settings.accounts:
        return ChosenAccounts(settings, (settings.account_id,))
    settings = settings._replace(account_id=settings.account_id or own_account(find))
    members = keep_members()
    swept = _swept(invocation._replace(settings=settings), choice, members)
    # An account that the operator wants to be listed is listed by its own role alone.
    allowed = settings.allowed_accounts - {*swept.account_ids}
    settings = settings._replace(allowed_accounts=allowed)
    enter = enter_members(members, settings)
    return ChosenAccounts(settings, swept.account_ids, enter, swept.problems)


def _swept(
    invocation: Invocation, choice: Choice, members: Callable[[Settings], Members]
) -> SweptAccounts:
    settings = invocation.settings
    if choice.account_ids:
        return SweptAccounts(choice.account_ids)
    if choice.organization:
        settings = settings._replace(allowed_accounts=frozenset())
    invocation = invocation._replace(settings=settings)
    if settings.accounts == ORGANIZATION:
        _read_directory(invocation, members(settings))
    return accounts_to_sweep(invocation, members)


def own_account(find: Find) -> str:
    """Return the account of the caller; raises ConfigurationError if it is not known."""
    caller, why = find()
    if caller is None:
        raise ConfigurationError(
            f"The account is not known: set FC_ACCOUNT_ID to your account ID. {why}"
        )
    return caller.account_id


def _read_directory(invocation: Invocation, members: Members) -> None:
    """Read the list that `accounts_to_sweep` goes by; a command has no earlier one to go on with.

    Raises ConfigurationError or Unavailable.
    """
    try:
        members.list(invocation.within(LIST_SECONDS))
    except DirectoryRefused as refused:
        raise ConfigurationError(
            f"{refused.why} Use the credentials of that account, or name the accounts with"
            " --account or in GUARD_ACCOUNTS."
        ) from refused
    except ApiRefused as refused:
        raise ConfigurationError(f"{refused} Check the credentials.") from refused
    except Unavailable as error:
        raise Unavailable(
            f"The accounts of the organization are not known. {error} To go on without that list,"
            " name the accounts with --account."
        ) from error
