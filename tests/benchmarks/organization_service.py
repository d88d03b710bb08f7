"""What a sweep of an organization asks, in a process of its own: canned answers, each 20 ms later.

The resource directory, STS and OSS Tables have one address. As in sweep_service.py nothing is
checked, so that the clients are measured; but whose buckets a list has says the key of the request,
and STS makes a key out of the account that it is asked for: a key that is sent for another account
meets buckets that are not there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, unquote

from tests.benchmarks.canned_service import CannedService, canned, canned_buckets, serve
from tests.benchmarks.case import ACCESS_KEY_SECRET, ACCOUNT_ID, SECURITY_TOKEN
from tests.benchmarks.service_process import running
from tests.emulators.oss_tables_documents import encryption_document
from tests.emulators.oss_tables_state import Encryption

REGIONS = (
    *("cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-shenzhen", "cn-wulanchabu"),
    *("ap-southeast-1", "eu-central-1", "us-east-1"),
)
BUCKETS = 10
ANSWER_SECONDS = 0.02
KEY_OF = "STS.of."
_SIGNER = re.compile(rb"Credential=([^/,]+)[/,](?:\d{8}/([a-z0-9-]+)/osstables/)?")
_ACTION = re.compile(rb"\r\nx-acs-action: (\w+)", re.IGNORECASE)
_ROLE = re.compile(r"acs:ram::(\d+):role/")


def members(number: int) -> list[str]:
    """The ids of an organization of so many accounts, but for the own one."""
    return [f"88000000000{each:05}" for each in range(number - 1)]


@dataclass
class Seen:
    """What was asked since the last question; `wrong` is what nobody should ask."""

    lists: int = 0
    reads: int = 0
    roles: int = 0
    wrong: int = 0
    arns: set[str] = field(default_factory=set)
    # When each region of each account was listed, in seconds of any clock.
    listed_at: dict[tuple[str, str], list[float]] = field(default_factory=dict)


Service = CannedService[Seen]


@contextmanager
def running_service(accounts: int) -> Iterator[Service]:
    """Start the process; it ends with the block."""
    with running(_serve, accounts) as (port, line):
        yield Service(port, line)


# The inside of the process.


def _serve(line: Connection, accounts: int) -> None:
    serve(line, _Desk(accounts))


class _Desk:
    """What is answered, and what was asked."""

    delay = ANSWER_SECONDS

    def __init__(self, accounts: int) -> None:
        self.seen = Seen()
        self._members = members(accounts)
        self._accounts = {ACCOUNT_ID, *self._members}
        self._lists: dict[tuple[str, str], bytes] = {}

    def connected(self) -> None:
        """It does not matter how many there are."""

    def told(self, _: None) -> Seen:
        """What was seen, which is forgotten."""
        told, self.seen = self.seen, Seen()
        return told

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, of which only the head is here."""
        target = request.split(b" ", 2)[1].decode()
        if action := _ACTION.search(request):
            return self._api(action[1].decode(), parse_qs(target.partition("?")[2]))
        signer = _SIGNER.search(request)
        if signer is None or signer[2] is None:
            return self._wrong()
        key = signer[1].decode()
        account = key.removeprefix(KEY_OF) if key.startswith(KEY_OF) else ACCOUNT_ID
        path = target.partition("?")[0]
        if path == "/buckets":
            self.seen.lists += 1
            place = (account, signer[2].decode())
            self.seen.listed_at.setdefault(place, []).append(time.monotonic())
            return self._list(*place)
        arn = unquote(path.removeprefix("/buckets/").removesuffix("/encryption"))
        if not request.startswith(b"GET ") or arn.split(":")[3:4] != [account]:
            return self._wrong()
        self.seen.reads += 1
        self.seen.arns.add(arn)
        return _ENCRYPTED

    def _wrong(self) -> bytes:
        self.seen.wrong += 1
        return _DENIED

    def _api(self, action: str, asked: dict[str, list[str]]) -> bytes:
        if action == "ListAccounts":
            return self._accounts_page(int(asked.get("NextToken", ["0"])[0]))
        role = _ROLE.match(asked.get("RoleArn", [""])[0])
        if action != "AssumeRole" or role is None or role[1] not in self._accounts:
            return self._wrong()
        self.seen.roles += 1
        expires_at = datetime.now(timezone.utc) + timedelta(hours=1)
        key = {
            "AccessKeyId": f"{KEY_OF}{role[1]}",
            "AccessKeySecret": ACCESS_KEY_SECRET,
            "SecurityToken": SECURITY_TOKEN,
            "Expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        return canned({"RequestId": "1", "Credentials": key})

    def _accounts_page(self, start: int) -> bytes:
        shown = self._members[start : start + 100]
        more = start + len(shown) < len(self._members)
        fields = {"Status": "CreateSuccess", "Type": "ResourceAccount", "DeletionStatus": ""}
        return canned(
            {
                "RequestId": "1",
                "TotalCount": len(self._members),
                "NextToken": str(start + len(shown)) if more else "",
                "Accounts": {"Account": [{"AccountId": each, **fields} for each in shown]},
            }
        )

    def _list(self, account: str, region: str) -> bytes:
        if (account, region) not in self._lists:
            entries = canned_buckets(region, account, BUCKETS)
            self._lists[account, region] = canned({"tableBuckets": entries})
        return self._lists[account, region]


_ENCRYPTED = canned(encryption_document(Encryption("AES256")))
_DENIED = canned({"code": "AccessDenied", "message": "canned"}, "403 Forbidden")
