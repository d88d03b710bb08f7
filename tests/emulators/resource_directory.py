"""Resource Directory on loopback: the accounts of an organization, for those who may list them.

https://www.alibabacloud.com/help/en/resource-management/developer-reference/api-resourcedirectorymaster-2022-04-19-listaccounts
Form as the vendor's SDK has it (`alibabacloud_resourcedirectorymaster20220419` 2.3.1). The codes of
refusals are those on the pages of its sibling APIs; no live answer was at hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import parameters
from tests.emulators.emulated_service import Call, Clock, refuse, utc_now
from tests.emulators.faults import Faults
from tests.emulators.rpc_service import RpcService, answered, no_such_action
from tests.emulators.server import Authority
from tests.emulators.wire import Answer

VERSION = "2022-04-19"
LIST_ACCOUNTS = "ListAccounts"
PAGE_SIZE, LARGEST_PAGE = 10, 100
# The root, which has the folders of all members.
ROOT = "r-emulated"
# As opaque as a token may be.
TOKEN = "after /+="

Status = Literal[
    "CreateSuccess",
    "InviteSuccess",
    "PromoteSuccess",
    "PromoteVerifying",
    "PromoteFailed",
    "PromoteExpired",
    "PromoteCancelled",
]
Deletion = Literal["", "Checking", "Deleting", "CheckFailed", "DeleteFailed"]


@dataclass(frozen=True)
class Member:
    """An account of the organization, as it is listed."""

    account_id: str
    status: Status = "CreateSuccess"
    deletion: Deletion = ""
    kind: Literal["ResourceAccount", "CloudAccount"] = "ResourceAccount"
    folder: str = "fd-emulated"

    def entry(self) -> dict[str, str]:
        return {
            "AccountId": self.account_id,
            "AccountName": f"{self.account_id}@rd.aliyunid.com",
            "DisplayName": f"member {self.account_id}",
            "Status": self.status,
            "DeletionStatus": self.deletion,
            "Type": self.kind,
            "JoinMethod": "invited" if self.kind == "CloudAccount" else "created",
            "JoinTime": "2021-01-18T14:04:37.668+08:00",
            "ModifyTime": "2021-01-18T14:04:37.668+08:00",
            "FolderId": self.folder,
            "ResourceDirectoryId": "rd-emulated",
            "ResourceDirectoryPath": f"rd-emulated/{ROOT}/{self.folder}",
        }


class ResourceDirectory(RpcService):
    """The service, of one directory.

    `manager` is its management account, which the list does not hold; no page says whether it does.
    `delegated` accounts may list it, too. `repeats_token`: each page but the first leads to itself.
    """

    def __init__(
        self,
        *access_keys: AccessKey,
        manager: str,
        members: Iterable[Member] = (),
        delegated: Iterable[str] = (),
        repeats_token: bool = False,
        authority: Authority | None = None,
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(*access_keys, authority=authority, faults=faults, clock=clock)
        self.manager = manager
        self.delegated = set(delegated)
        self.repeats_token = repeats_token
        # Called after an account has joined or left.
        self.listeners: list[Callable[[], object]] = []
        self._members = {member.account_id: member for member in members}
        self._lock = threading.Lock()

    def join(self, member: Member) -> None:
        """Let an account be a member, or a member be in another state."""
        with self._lock:
            self._members[member.account_id] = member
        self._tell()

    def leave(self, account_id: str) -> None:
        """Let an account be none of the organization's any more."""
        with self._lock:
            del self._members[account_id]
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    @property
    def folders(self) -> set[str]:
        """The ids of the root and of the folders."""
        with self._lock:
            return {ROOT, "fd-emulated", *(member.folder for member in self._members.values())}

    def accounts_in(self, folders: Iterable[str]) -> list[str]:
        """The members in these folders, by their ids."""
        wanted = {*folders}
        with self._lock:
            return sorted(
                member.account_id
                for member in self._members.values()
                if {member.folder, ROOT} & wanted and member.deletion != "Deleting"
            )

    def perform(self, call: Call) -> Answer:
        request = call.request
        if (call.operation, request.headers.get("x-acs-version")) != (LIST_ACCOUNTS, VERSION):
            raise no_such_action()
        self._check_caller(self.authenticated(call))
        return answered(call, self._page(parameters(request)))

    def _check_caller(self, key: AccessKey) -> None:
        account_id = key.account_id
        if account_id not in {self.manager, *self.delegated}:
            if account_id in self._members:
                raise refuse(
                    409,
                    "NoPermission.ResourceDirectory.MemberAccount",
                    "ResourceDirectory Member Account is not authorized to perform this operation.",
                )
            raise refuse(
                404,
                "EntityNotExists.ResourceDirectory",
                "The resource directory for the account is not enabled.",
            )
        place = f"acs:resourcemanager:*:{account_id}:account/*"
        self.require_right(key, f"resourcemanager:{LIST_ACCOUNTS}", place)

    def _page(self, asked: Mapping[str, str]) -> dict[str, Any]:
        with self._lock:
            listed = dict(self._members)
        token = asked.get("NextToken", "")
        if token and not token.startswith(TOKEN):
            raise refuse(400, "InvalidParameter.NextToken", "The specified NextToken is invalid.")
        # By account id, so that nobody is missed or told twice while others join and leave.
        rest = sorted(each for each in listed if each > token.removeprefix(TOKEN))
        shown = rest[: _size(asked)]
        following = f"{TOKEN}{shown[-1]}" if len(rest) > len(shown) else ""
        return {
            "TotalCount": len(listed),
            "NextToken": token if token and self.repeats_token else following,
            "Accounts": {"Account": [listed[each].entry() for each in shown]},
        }


def _size(asked: Mapping[str, str]) -> int:
    text = asked.get("MaxResults", str(PAGE_SIZE))
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_PAGE:
        raise refuse(
            400, "InvalidParameter.MaxResults", f"MaxResults has to be 1 to {LARGEST_PAGE}."
        )
    return int(text)
