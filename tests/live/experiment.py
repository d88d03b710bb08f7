"""One bucket is made, watched, left without its encryption once, and deleted: in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from encryption_guard.errors import GuardError
from encryption_guard.invocation import Clock
from encryption_guard.services.smq import SmqMessage
from tests.emulators.event_bridge import Pattern
from tests.live.capture import Capture, Deaf, LeftOver, Listen
from tests.live.event_reading import CREATE, DELETE, decoded, heard, read
from tests.live.observations import AES256, Encryption, Heard, Letters, Observed, Said

POLL_SECONDS = 0.5
DELETIONS = 4


class Tables(Protocol):
    """The outside witness of OSS Tables."""

    def create(self, name: str) -> tuple[Said, str | None, str | None]: ...
    def encryption(self, arn: str) -> Encryption: ...
    def decrypt(self, arn: str) -> Said: ...
    def put_kms(self, arn: str) -> Said: ...
    def delete(self, arn: str) -> Said: ...


@dataclass(frozen=True)
class Plan:
    """What is made, and how long is waited for what; in seconds."""

    region: str
    account: str
    bucket: str
    long_name: str
    pattern: Pattern
    wait: float
    wait_drift: float
    wait_trail: float = 0.0

    def arn(self, name: str) -> str:
        return f"acs:osstables:{self.region}:{self.account}:bucket/{name}"


@dataclass(frozen=True)
class Doors:
    """Everything outside. `host` asks once, with this addressing, as the guard itself does."""

    tables: Tables
    capture: Capture
    host: Callable[[Literal["path", "virtual"], str], Said]
    one_host: str
    peek: Callable[[], Sequence[SmqMessage]]
    clock: Clock
    tell: Callable[[str], None]


class Experiment:
    """Collects what it sees in `observed`, so that an interruption loses nothing."""

    def __init__(self, plan: Plan, doors: Doors) -> None:
        self.observed = Observed()
        self._plan = plan
        self._doors = doors
        self._arn = plan.arn(plan.bucket)
        self._made: list[str] = []
        self._open = ExitStack()
        self._listen: Listen | None = None
        self._heard: dict[str, Heard] = {}
        self._marks: tuple[str, ...] = (plan.bucket,)

    def run(self) -> None:
        """Do all of it; whatever ends it, `clean_up` has to come afterwards."""
        self._begin_listening()
        if self._create():
            self._watch()
            self._hosts()
            self._await_event()
            if self.observed.encrypted_after is not None:
                self._drift()
            self._note(kms=self._doors.tables.put_kms(self._arn))
        self._glance()
        self._long_name()

    def clean_up(self) -> list[str]:
        """Delete everything; what is left over, each with how to remove it."""
        left = [sentence for name in self._made if (sentence := self._deleted(name))]
        try:
            self._open.close()
        except LeftOver as error:
            left.append(str(error))
        if self.observed.created and not left:
            self._note(gone=self._doors.tables.encryption(self._arn).said)
        return left

    def _note(self, **seen: object) -> None:
        self.observed = replace(self.observed, **seen)  # type: ignore[arg-type]  # fields by name

    def _begin_listening(self) -> None:
        self._doors.tell("Making a rule and a queue, to have the event as it is delivered.")
        try:
            self._listen = self._open.enter_context(self._doors.capture())()
            self._note(deaf="")
        except Deaf as error:
            self._note(deaf=str(error))
            self._doors.tell(f"Without the event: {error}")

    def _create(self) -> bool:
        self._doors.tell(f"Creating {self._plan.bucket}.")
        # Before it is asked for: the answer may be lost, and the bucket is there all the same.
        self._made.append(self._plan.bucket)
        said, arn, request_id = self._doors.tables.create(self._plan.bucket)
        self._begun = self._doors.clock.monotonic()
        self._marks = tuple(mark for mark in (self._plan.bucket, request_id) if mark)
        self._note(created=said, created_at=self._begun, arn=arn, request_id=request_id)
        return said.done

    def _watch(self) -> None:
        first = self._doors.tables.encryption(self._arn)
        self._note(first_get=first)
        after = self._after(self._plan.wait, lambda now: now.algorithm == AES256, first)
        self._note(encrypted_after=after, waited=self._passed())
        self._doors.tell(
            f"Not encrypted within {self._passed():.0f} s." if after is None
            else f"Encrypted after {after:.1f} s."
        )  # fmt: skip

    def _after(
        self, seconds: float, wanted: Callable[[Encryption], bool], now: Encryption | None = None
    ) -> float | None:
        """Ask again and again; the seconds since `_begun` when the answer was as wanted."""
        while True:
            now = now or self._doors.tables.encryption(self._arn)
            if wanted(now):
                return self._passed()
            self._hear()
            if self._passed() >= seconds:
                return None
            self._doors.clock.sleep(POLL_SECONDS)
            now = None

    def _passed(self) -> float:
        return self._doors.clock.monotonic() - self._begun

    def _hear(self) -> None:
        if self._listen is None:
            return
        try:
            messages = self._listen()
        except GuardError:
            return  # a later look may succeed
        for message in messages:
            self._heard.setdefault(message.message_id, Heard(message.body, self._passed()))

    def _told_of(self, name: str, marks: Sequence[str]) -> Heard | None:
        self._hear()
        return heard(list(self._heard.values()), name, marks)

    def _await(self, name: str, seconds: float, marks: Sequence[str]) -> Heard | None:
        """The event, once it is in the queue, unless nobody listens or the time is over."""
        while True:
            found = self._told_of(name, marks)
            if found or self._listen is None or self._passed() >= seconds:
                return found
            self._doors.clock.sleep(POLL_SECONDS)

    def _await_event(self) -> None:
        until = max(self._passed(), self._plan.wait_drift)
        found = self._await(CREATE, until, self._marks)
        self._note(event_waited=self._passed())
        if found:
            event, body = decoded(found.body)
            reading = read(event, self._plan.pattern)
            self._note(event=event, body=body, event_after=found.at, reading=reading)

    def _hosts(self) -> None:
        if self._doors.one_host:
            self._note(one_host=self._doors.one_host)
            return
        self._note(
            plain_host=self._doors.host("path", self._arn),
            virtual_host=self._doors.host("virtual", self._arn),
        )

    def _drift(self) -> None:
        self._doors.tell("Taking the encryption off, to see whether anybody tells the guard.")
        self._heard.clear()
        said = self._doors.tables.decrypt(self._arn)
        self._begun = self._doors.clock.monotonic()
        first = self._doors.tables.encryption(self._arn)
        self._note(decrypted=said, decrypted_at=self._begun, get_after_delete=first)
        if not said.done:
            return
        seconds = self._plan.wait_drift
        after = self._after(seconds, lambda now: now.algorithm == AES256, first)
        # An event that names nothing cannot be told from others, and there is no need to.
        found = self._await(DELETE, seconds, (self._plan.bucket,))
        self._note(
            drift_encrypted_after=after,
            drift_event_after=found.at if found else None,
            drift_waited=self._passed(),
        )

    def _long_name(self) -> None:
        self._doors.tell(f"Asking for a bucket with a name of {len(self._plan.long_name)}.")
        self._made.append(self._plan.long_name)
        said, _, _ = self._doors.tables.create(self._plan.long_name)
        self._note(long_name=said)

    def _glance(self) -> None:
        try:
            letters = self._doors.peek()
        except GuardError as error:
            self._note(letters=Letters(trouble=str(error)))
            return
        about = [each for each in letters if self._plan.bucket.encode() in decoded(each.body)[0]]
        self._note(letters=Letters(seen=len(letters), about_the_bucket=len(about)))

    def _deleted(self, name: str) -> str | None:
        """None once it is gone, else what is left over."""
        arn = self._plan.arn(name)
        try:
            said = self._delete(arn)
        except Exception as error:  # whatever it is must not keep the rest from being deleted
            said = Said(None, type(error).__name__)
        if said.done or said.status == 404 or self._was_refused(name):
            return None
        return (
            f"the table bucket {name} in {self._plan.region} ({said}): delete it in the OSS"
            f" console, or with DeleteTableBucket of {arn}"
        )

    def _delete(self, arn: str) -> Said:
        said = self._doors.tables.delete(arn)
        for _ in range(DELETIONS - 1):
            # Not there is as good as deleted, and a refused name was never there.
            if said.done or said.status in (400, 404):
                break
            self._doors.clock.sleep(1.0)
            said = self._doors.tables.delete(arn)
        return said

    def _was_refused(self, name: str) -> bool:
        """Whether the service said that it would not make it.

        That it is there already is what a repeated request hears whose first answer was lost.
        """
        said = {
            self._plan.bucket: self.observed.created,
            self._plan.long_name: self.observed.long_name,
        }[name]
        return (
            said is not None
            and said.status is not None
            and 400 <= said.status < 500
            and said.status != 409
        )
