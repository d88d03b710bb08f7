"""Resource Directory: the accounts of an organization."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from encryption_guard.arn import ACCOUNT_ID
from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import Api, ApiRefused, call
from encryption_guard.untrusted import as_text, object_or_empty, plain_json, quoted

ENDPOINT: Final = "https://resourcedirectory.aliyuncs.com"
VERSION: Final = "2022-04-19"
PAGE_SIZE: Final = 100
MAX_PAGE_BYTES: Final = 1024 * 1024
# CreateSuccess, InviteSuccess, PromoteSuccess, PromoteVerifying, PromoteFailed, PromoteExpired and
# PromoteCancelled: a promotion turns a resource account into a cloud account.
_IS_MEMBER: Final = r"\w+Success|Promote\w+"
# After Checking, CheckFailed and DeleteFailed the account is still there.
_BEING_DELETED: Final = "deleting"


class DirectoryRefused(ApiRefused):
    """A directory that this account may not list; `why` is the message without its advice."""

    def __init__(self, refused: ApiRefused) -> None:
        self.why = (
            f"The accounts of the organization cannot be listed ({str(refused).rstrip('.')})."
            " Only the management account of a resource directory, or a delegated administrator"
            " account, may list them, and the caller needs resourcemanager:ListAccounts."
        )
        advice = (
            "Deploy the guard there, or list account ids in GUARD_ACCOUNTS instead of organization."
        )
        super().__init__(f"{self.why} {advice}", status=refused.status, code=refused.code)


class AccountList(NamedTuple):
    """The accounts of an organization, the caller's own first; incomplete if it has `problems`."""

    account_ids: tuple[str, ...]
    problems: tuple[str, ...] = ()


class _Page(NamedTuple):
    entries: tuple[object, ...]
    token: str
    # The accounts of all pages, as the service counts them; None if it does not.
    total: int | None


def list_accounts(invocation: Invocation) -> AccountList:
    """Return the own account and all members of its directory, except those being deleted.

    The documentation does not state whether the list contains the caller's own account.
    Raises DirectoryRefused if this account may not list them, Unavailable if a page cannot be read,
    and ApiRefused for any other refusal.
    https://www.alibabacloud.com/help/en/resource-management/developer-reference/api-resourcedirectorymaster-2022-04-19-listaccounts
    """
    own = invocation.settings.account_id
    found: dict[str, None] = {own: None} if own else {}
    problems: dict[str, None] = {}
    token, seen, number = "", {""}, 0
    while True:
        page = _read_page(invocation, token)
        number += len(page.entries)
        for entry in page.entries:
            try:
                found.update(dict.fromkeys(_members(entry)))
            except ValueError as error:
                problems[str(error)] = None
        token = page.token
        if token in seen:
            break
        seen.add(token)
    if token:
        problems["The list of accounts is incomplete: its token leads to an earlier page."] = None
    elif page.total and number < page.total:
        problems[
            f"The list of accounts is incomplete: the directory counts {page.total} accounts, and"
            f" has listed {number}."
        ] = None
    return AccountList(tuple(found), tuple(problems))


def _read_page(invocation: Invocation, token: str) -> _Page:
    api = Api(invocation.settings.directory_endpoint or ENDPOINT, VERSION)
    query = {"MaxResults": str(PAGE_SIZE), **({"NextToken": token} if token else {})}
    try:
        answer = call(api, "ListAccounts", invocation, query=query, max_bytes=MAX_PAGE_BYTES)
    except ApiRefused as refused:
        raise (DirectoryRefused(refused) if refused.denies else refused) from refused
    entries = object_or_empty(answer.get("Accounts")).get("Account")
    if not isinstance(entries, list):
        # Taken for an empty list, it would leave every member unguarded.
        raise Unavailable("ListAccounts returned no list of accounts.")
    total = as_text(answer.get("TotalCount")) or ""
    counted = int(total) if re.fullmatch("[0-9]{1,9}", total, re.ASCII) else None
    return _Page(tuple(entries), as_text(answer.get("NextToken")) or "", counted)


def _members(entry: object) -> tuple[str, ...]:
    """Return the account of an entry, or nothing if it is being deleted; raises ValueError."""
    fields = object_or_empty(entry)
    account_id = as_text(fields.get("AccountId")) or ""
    if not re.fullmatch(ACCOUNT_ID, account_id, re.ASCII):
        raise ValueError(
            f"An entry of the directory has no account id: {quoted(plain_json(entry))}."
        )
    if (as_text(fields.get("DeletionStatus")) or "").lower() == _BEING_DELETED:
        return ()
    status = as_text(fields.get("Status")) or ""
    if not re.fullmatch(_IS_MEMBER, status, re.ASCII):
        raise ValueError(
            f"Account {account_id} is left out: {quoted(status)} is not the status of a member."
        )
    return (account_id,)
