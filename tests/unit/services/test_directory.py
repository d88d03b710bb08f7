"""The accounts of an organization: pages, statuses, and lists that are not complete."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from encryption_guard.errors import Unavailable
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.directory import AccountList, DirectoryRefused, list_accounts
from tests.unit.fakes import ACCOUNT, Broken, Reply, invocation_of
from tests.unit.services.rpc_service import RpcService, parameters, refusal

FIRST, SECOND, THIRD = "2222222222222222", "3333333333333333", "4444444444444444"
AWKWARD_TOKEN = "a b*c~d+e'f\u00e9/%="
CIRCULAR = "The list of accounts is incomplete: its token leads to an earlier page."


def member(account_id: object, **changed: object) -> dict[str, object]:
    """An entry with the fields of the vendor's SDK; those that are None are left out."""
    entry = {
        "AccountId": account_id,
        "DisplayName": "Finance",
        "Status": "CreateSuccess",
        "Type": "ResourceAccount",
        "JoinTime": "2021-01-18T14:04:37.668+08:00",
        "DeletionStatus": "",
        **changed,
    }
    return {name: value for name, value in entry.items() if value is not None}


def page(*entries: object, token: object = "") -> Reply:
    document = {"RequestId": "1", "NextToken": token, "Accounts": {"Account": list(entries)}}
    return Reply(200, json.dumps(document).encode())


class Directory(RpcService):
    """Answers with these pages, by the token that leads to each."""

    def __init__(self, pages: dict[str, Reply], **rest: Any) -> None:
        super().__init__(**rest)
        self.pages = pages

    def answer(self, request: httpx.Request) -> Reply:
        checked = super().answer(request)
        token = parameters(request.url.query.decode()).get("NextToken", "")
        return self.pages[token] if checked.status == 200 else checked


def listed(directory: Directory, **environment: str) -> AccountList:
    return list_accounts(invocation_of(directory, environment=environment))


def listed_of(entries: Iterable[object]) -> AccountList:
    return listed(Directory({"": page(*entries)}))


def test_every_page_is_read_in_order() -> None:
    """The token of each page leads to the next one, and the own account is always in."""
    directory = Directory(
        {
            "": page(member(FIRST), token=AWKWARD_TOKEN),
            AWKWARD_TOKEN: page(member(SECOND), member(ACCOUNT), token="last"),
            "last": page(member(THIRD), token=None),
        }
    )

    assert listed(directory) == AccountList((ACCOUNT, FIRST, SECOND, THIRD))
    asked = [parameters(request.url.query.decode()) for request in directory.requests]
    assert asked == [
        {"MaxResults": "100"},
        {"MaxResults": "100", "NextToken": AWKWARD_TOKEN},
        {"MaxResults": "100", "NextToken": "last"},
    ]
    assert {request.url.host for request in directory.requests} == {
        "resourcedirectory.aliyuncs.com"
    }
    assert {request.headers["x-acs-action"] for request in directory.requests} == {"ListAccounts"}
    assert {request.headers["x-acs-version"] for request in directory.requests} == {"2022-04-19"}


def test_the_endpoint_is_a_setting() -> None:
    """International sites have another host."""
    endpoint = "https://resourcedirectory-intl.aliyuncs.com"
    directory = Directory({"": page()})

    assert listed(directory, GUARD_DIRECTORY_ENDPOINT=endpoint) == AccountList((ACCOUNT,))
    assert str(directory.requests[0].url).startswith(endpoint)


def test_a_command_may_not_know_its_own_account() -> None:
    """Then only the directory's are listed."""
    invocation = invocation_of(Directory({"": page(member(FIRST))}))
    settings = invocation.settings._replace(account_id=None)

    found = list_accounts(invocation._replace(settings=settings))

    assert found == AccountList((FIRST,))


@pytest.mark.parametrize(
    "pages",
    [
        {"": page(member(FIRST), token="a"), "a": page(member(SECOND), token="a")},
        {
            "": page(member(FIRST), token="a"),
            "a": page(member(SECOND), token="b"),
            "b": page(token="a"),
        },
    ],
    ids=["the same token", "a circle"],
)
def test_a_token_that_comes_twice_makes_the_list_incomplete(pages: dict[str, Reply]) -> None:
    """What was read counts, and the problem is reported."""
    assert listed(Directory(pages)) == AccountList((ACCOUNT, FIRST, SECOND), (CIRCULAR,))


@pytest.mark.parametrize(
    "status",
    [
        *("CreateSuccess", "InviteSuccess", "PromoteSuccess", "PromoteVerifying"),
        *("PromoteFailed", "PromoteExpired", "PromoteCancelled"),
    ],
)
@pytest.mark.parametrize("deletion", [None, "", "Checking", "CheckFailed", "DeleteFailed"])
def test_members_of_every_documented_status_are_listed(status: str, deletion: str | None) -> None:
    """Also one whose deletion is only checked, or failed."""
    entry = member(FIRST, Status=status, DeletionStatus=deletion, Type="CloudAccount")

    assert listed_of([entry]) == AccountList((ACCOUNT, FIRST))


def test_a_member_that_is_being_deleted_is_left_out() -> None:
    """That is no problem of the list; the own account stays whatever the directory says."""
    entries = [member(FIRST, DeletionStatus="Deleting"), member(ACCOUNT, DeletionStatus="Deleting")]

    assert listed_of([*entries, member(SECOND)]) == AccountList((ACCOUNT, SECOND))


@pytest.mark.parametrize("status", ["InvitePending", "Success", "", None])
def test_an_account_of_another_status_is_left_out_and_reported(status: str | None) -> None:
    """Nobody else is left out with it."""
    found = listed_of([member(FIRST, Status=status), member(SECOND)])

    said = json.dumps(status or "")
    assert found == AccountList(
        (ACCOUNT, SECOND),
        (f"Account {FIRST} is left out: {said} is not the status of a member.",),
    )


@pytest.mark.parametrize(
    "entry",
    [
        member(None),
        member(""),
        member("2222 2222"),
        member("\u0662" * 16),
        member(["2222222222222222"]),
        "text",
        None,
        [],
    ],
)
def test_an_entry_without_an_account_id_is_reported(entry: object) -> None:
    """No request is signed for what is not an account."""
    found = listed_of([entry, entry, member(SECOND)])

    assert found.account_ids == (ACCOUNT, SECOND)
    (problem,) = found.problems
    assert problem.startswith("An entry of the directory has no account id: ")


def test_unknown_fields_and_numbers_are_accepted() -> None:
    """An account id may come without its quotes."""
    found = listed_of([member(int(FIRST), Tags={"Tag": [1]}), member(SECOND, Novelty=[{}])])

    assert found == AccountList((ACCOUNT, FIRST, SECOND))


def counted(total: object, *entries: object, token: str = "") -> Reply:
    """A page of a directory that counts so many accounts."""
    fields = {"TotalCount": total, "NextToken": token, "Accounts": {"Account": entries}}
    return Reply(200, json.dumps(fields).encode())


@pytest.mark.parametrize("entries", [[], [member(FIRST)]])
def test_a_directory_that_counts_more_than_it_lists_is_incomplete(entries: list[object]) -> None:
    """An empty list is no organization of the own account alone."""
    found = listed(Directory({"": counted(3, *entries)}))

    assert found.problems == (
        "The list of accounts is incomplete: the directory counts 3 accounts, and has listed"
        f" {len(entries)}.",
    )


@pytest.mark.parametrize("total", [2, "2", 1, 0, None, "many", -2])
def test_other_totals_say_nothing(total: object) -> None:
    """An account may have joined between two pages; what is no number is none."""
    pages = {"": counted(total, member(FIRST), token="a"), "a": counted(total, member(SECOND))}

    assert listed(Directory(pages)) == AccountList((ACCOUNT, FIRST, SECOND))


@pytest.mark.parametrize(
    "body", [b'{"RequestId": "1"}', b'{"Accounts": {}}', b'{"Accounts": {"Account": {}}}']
)
def test_an_answer_without_a_list_is_not_an_empty_organization(body: bytes) -> None:
    """No member becomes unguarded because the directory answered something else."""
    with pytest.raises(Unavailable, match="no list of accounts"):
        listed(Directory({"": Reply(200, body)}))


def test_a_page_that_cannot_be_read_is_no_end_of_the_list() -> None:
    """The first page alone is not the organization."""
    broken = {"POST": [page(member(FIRST), token="a"), *[Broken(httpx.ConnectError)] * 9]}

    with pytest.raises(Unavailable):
        listed(Directory({}, troubles=broken))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "NoPermission"),
        (400, "NoPermission"),
        (404, "EntityNotExists.ResourceDirectory"),
        (404, "ResourceDirectoryNotInUse"),
        (409, "NoPermission.ResourceDirectory.MemberAccount"),
    ],
)
def test_a_directory_of_others_is_an_error_of_its_own(status: int, code: str) -> None:
    """The sentence says who may list it, and what to do instead."""
    refused = refusal(status, code, "not yours")

    with pytest.raises(DirectoryRefused) as caught:
        listed(Directory({}, troubles={"POST": [refused]}))

    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value) == (
        "The accounts of the organization cannot be listed (ListAccounts of"
        f' resourcedirectory.aliyuncs.com answered {status} {code}: "not yours" (request REQ-1)).'
        " Only the management account of a resource directory, or a delegated administrator"
        " account, may list them, and the caller needs resourcemanager:ListAccounts. Deploy the"
        " guard there, or list account ids in GUARD_ACCOUNTS instead of organization."
    )


def test_another_refusal_is_not_the_directorys() -> None:
    """A refused signature says nothing about who may list the accounts."""
    refused = refusal(400, "SignatureDoesNotMatch", "no")

    with pytest.raises(ApiRefused) as caught:
        listed(Directory({}, troubles={"POST": [refused]}))

    assert not isinstance(caught.value, DirectoryRefused)
