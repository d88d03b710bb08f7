"""Events of other accounts: who is asked, by whose role the guard acts, and what is left out."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from encryption_guard import enforcement
from encryption_guard.arn import TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import Outcome, keep_members, process_bucket, process_event
from encryption_guard.enforcement.members import Members
from encryption_guard.enforcement.policy import FoundBucket
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import NotPrepared
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    KEY,
    REGION,
    FakeOssTables,
    LetterBox,
    LogLines,
    creation_of,
    forget_logger,
    invocation_of,
)

MEMBER = "2222222222222222"
OF_MEMBER = TableBucketArn(REGION, MEMBER, "orders")
MEMBERS_KEY = Credentials("STS.member", "a-secret", "a-token")
NOT_PREPARED = NotPrepared("Create the role.", account_id=MEMBER, status=403, code="NoPermission")


class Organization(Members):
    """The directory lists these accounts, and gives their key, or cannot."""

    def __init__(self, *account_ids: str, error: Exception | None = None) -> None:
        super().__init__(Settings(account_id=ACCOUNT))
        self._account_ids = frozenset(account_ids)
        self._error = error
        self.asked: list[str] = []

    def list_with(self, account_id: str, _: Invocation) -> frozenset[str]:
        self.asked.append(account_id)
        return self._account_ids

    def enter(self, _: str, invocation: Invocation) -> Invocation:
        return invocation._replace(read_credentials=self._read)

    def _read(self) -> Credentials:
        if self._error:
            raise self._error
        return MEMBERS_KEY


@dataclass
class Guard:
    """A function of the account ACCOUNT, and what it wrote."""

    organization: Organization
    accounts: str = "organization"
    service: FakeOssTables = field(
        default_factory=lambda: FakeOssTables(
            {str(ARN): "", str(OF_MEMBER): ""}, keys=(KEY, MEMBERS_KEY)
        )
    )
    box: LetterBox = field(default_factory=LetterBox)

    def invocation(self) -> Invocation:
        invocation = invocation_of(self.service, environment={"GUARD_ACCOUNTS": self.accounts})
        function = invocation.settings._replace(function_name="encrypt-on-create")
        return invocation._replace(settings=function)

    def letters(self) -> DeadLetters:
        now = self.service.time.now
        return DeadLetters(self.box.put, LogLines().error, "function", "request-1", now)

    def outcome(self, arn: TableBucketArn) -> Outcome:
        (event,) = open_payload(json.dumps(creation_of(arn)).encode()).events
        return process_event(
            event,
            invocation=self.invocation(),
            tables=OssTables(self.invocation()),
            dead_letters=self.letters(),
            members=lambda _: self.organization,
        )

    def keys(self) -> set[str]:
        """The ids of the keys that signed the requests."""
        texts = (request.headers["authorization"] for request in self.service.requests)
        return {text.partition("Credential=")[2].partition("/")[0] for text in texts}


@pytest.mark.parametrize(
    ("arn", "asked", "key"),
    [(OF_MEMBER, [MEMBER], MEMBERS_KEY), (ARN, [], KEY)],
    ids=["a member's", "the own one"],
)
def test_each_account_is_acted_in_by_its_own_key(
    arn: TableBucketArn, asked: list[str], key: Credentials
) -> None:
    """The directory is asked about a member alone."""
    guard = Guard(Organization(ACCOUNT, MEMBER))

    outcome = guard.outcome(arn)

    assert (outcome.outcome, outcome.arn, guard.keys()) == ("encrypted", arn, {key.access_key_id})
    assert guard.organization.asked == asked


def test_a_listed_account_needs_no_directory() -> None:
    """The settings have said that it is one of the guard's."""
    guard = Guard(Organization(), accounts=MEMBER)

    assert guard.outcome(OF_MEMBER).outcome == "encrypted"
    assert guard.organization.asked == []


def test_an_account_that_the_directory_does_not_list_is_foreign() -> None:
    """Nothing is sent, and the message names the setting."""
    guard = Guard(Organization(ACCOUNT))

    outcome = guard.outcome(OF_MEMBER)

    assert (outcome.outcome, outcome.reason) == ("dead_lettered", "foreign_account")
    assert guard.service.requests == []
    assert "add the account to GUARD_ACCOUNTS" in guard.box.read()[0]["detail"]


def test_a_bucket_of_an_account_that_is_not_prepared_is_left_to_the_sweep() -> None:
    """Without a dead letter; the line in the log is a warning that says what to do."""
    guard = Guard(Organization(MEMBER, error=NOT_PREPARED))
    forget_logger()
    stream = io.StringIO()

    outcome = guard.outcome(OF_MEMBER)
    log_outcome(outcome, logger=open_logger(stream))

    told: dict[str, Any] = json.loads(stream.getvalue())
    assert (outcome.outcome, outcome.reason, outcome.status, outcome.code) == (
        *("skipped", "not_prepared", 403),
        "NoPermission",
    )
    shown = (told["level"], told["message"], told["detail"], told["arn"])
    assert shown == ("WARNING", "account not prepared", "Create the role.", str(OF_MEMBER))
    assert guard.box.read() == []
    forget_logger()


def test_a_sweeps_bucket_is_not_to_blame_for_its_account() -> None:
    """If the role is not given again in the middle of a sweep, no bucket has a dead letter."""
    guard = Guard(Organization())
    keys = iter([KEY])

    def read() -> Credentials:
        for key in keys:
            return key
        raise NOT_PREPARED

    service = FakeOssTables(expired=[KEY.access_key_id])
    invocation = invocation_of(service, read_credentials=read)
    with pytest.raises(NotPrepared):
        process_bucket(
            FoundBucket(ARN, "created"),
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=guard.letters(),
        )
    assert guard.box.read() == []


def test_an_instance_opens_its_members_from_the_settings() -> None:
    """The own account is entered as it is, before anything is read."""
    invocation = invocation_of(FakeOssTables())

    members = keep_members()(invocation.settings)

    assert members.known_accounts == ()
    assert members.enter(ACCOUNT, invocation) is invocation


def test_threads_share_the_members_that_each_of_them_has_to_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also those that ask while another one opens them: else each would take every role."""
    opened: list[Settings] = []

    def open_slowly(settings: Settings) -> Members:
        opened.append(settings)
        time.sleep(0.05)
        return Members(settings)

    monkeypatch.setattr(enforcement, "open_members", open_slowly)
    members, settings = keep_members(), Settings(account_id=ACCOUNT)
    with ThreadPoolExecutor(4) as pool:
        of_threads = list(pool.map(members, [settings] * 4))

    assert (len(set(map(id, of_threads))), opened) == (1, [settings])
