"""One bucket in a sweep: read, decide, encrypt what is not encrypted, and read it back.

What is read is believed, not what was confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import Encrypted, Outcome, process_bucket
from encryption_guard.enforcement.policy import Cause, Decision, FoundBucket, Skip, decide
from encryption_guard.errors import DeadLetterNotWritten, Throttled, Unavailable
from encryption_guard.services.inventory import ListedBucket, read_bucket
from encryption_guard.services.oss_tables import Reading
from encryption_guard.sweep.findings import Finding, Memory
from encryption_guard.sweep.work_lists import Session

# As long as an event may be on its way to the creation function (maxAsyncEventAgeInSeconds of
# template.yaml): an older bucket without encryption has lost it, or never had a guard.
MAX_EVENT_AGE = timedelta(days=1)
# A GET may not show at once what a PUT has done.
READ_BACK_PAUSES = (0.0, 0.5, 1.0, 2.0)


def plan(found: Finding, reading: Reading, decision: Decision, *, encrypts: bool) -> Finding | None:
    """What is found where nothing is to be done about a bucket; None where it is to be encrypted.

    `found` is the bucket as it was read. A GET that fails is no reason to overwrite what may be a
    stronger choice, other than for an event: this bucket may be old, and the next sweep comes soon.
    """
    if isinstance(decision, Skip):
        exemption = decision.exemption
        return replace(found, outcome="skipped", reason=decision.reason, exemption=exemption)
    if reading.algorithm:
        return found.kept(reading)
    if reading.state == "unknown":
        return found
    return None if encrypts else replace(found, outcome="detected", reason="would_encrypt")


def cause_of(bucket: ListedBucket, *, now: datetime, seen_encrypted: bool) -> Cause:
    """Whether a bucket without encryption is new, or has drifted from how it was or should be."""
    at = bucket.created_at
    is_new = at is not None and now - at <= MAX_EVENT_AGE
    return "created" if is_new and not seen_encrypted else "drift"


@dataclass(frozen=True, slots=True)
class Checks:
    """What checks the buckets of one sweep; with `apply` it encrypts."""

    dead_letters: DeadLetters
    apply: bool
    memory: Memory

    def check(self, scope: Scope, bucket: ListedBucket, session: Session) -> Finding:
        """Check one bucket; when it was open, and seen encrypted, goes into the memory."""
        reading = read_bucket(session.tables, bucket.arn)
        now, settings = session.tables.now(), session.invocation.settings
        if reading.state == "not_encrypted":
            self.memory.note_open(bucket.identity, session.tables.latest())
        seen_encrypted = bucket.identity in self.memory.encrypted
        cause = cause_of(bucket, now=now, seen_encrypted=seen_encrypted)
        to_judge = FoundBucket(bucket.arn, cause, bucket.created_at, bucket.kind)
        found = Finding.of(scope, bucket, reading)
        decision = decide(to_judge, settings, today=now.date())
        encrypts = self.apply and settings.mode == "enforce"
        planned = plan(found, reading, decision, encrypts=encrypts)
        if not planned:
            planned, open_until = self._encrypt(found, bucket, to_judge, session)
            self.memory.note_open(bucket.identity, open_until)
        if planned.state == "encrypted":
            self.memory.encrypted[bucket.identity] = session.tables.now()
        return planned

    def _encrypt(
        self, found: Finding, bucket: ListedBucket, to_judge: FoundBucket, session: Session
    ) -> tuple[Finding, datetime]:
        """Encrypt, and believe what is read back afterwards.

        Returns until when the bucket is known to have been open, too.
        """
        latest = session.tables.latest
        try:
            outcome = self._process(to_judge, session)
        except DeadLetterNotWritten as error:
            return found.unfinished(error), latest()
        except Unavailable as error:
            # The answer to a PUT may be lost after it was done.
            open_until, reading = latest(), _read_back(bucket, session)
            found = Finding.of(found.scope, bucket, reading)
            found = found.kept(reading) if reading.algorithm else found.unfinished(error)
            return found, open_until
        # Where somebody else was faster, nobody knows by how much.
        open_until, found = outcome.open_until or latest(), found.with_outcome(outcome)
        if isinstance(outcome, Encrypted):
            found = found.read_back(_read_back(bucket, session))
        return found, open_until

    def _process(self, to_judge: FoundBucket, session: Session) -> Outcome:
        invocation, tables = session.invocation, session.tables
        letters = self.dead_letters
        try:
            return process_bucket(
                to_judge, invocation=invocation, tables=tables, dead_letters=letters
            )
        except Throttled:
            # The GET before a PUT has two seconds of its own: too few for most pauses.
            session.throttle.wait(invocation.budget.request_deadline())
            return process_bucket(
                to_judge, invocation=invocation, tables=tables, dead_letters=letters
            )


def _read_back(bucket: ListedBucket, session: Session) -> Reading:
    reading = Reading("unknown", why="There was no time left.")
    for pause in READ_BACK_PAUSES:
        if session.invocation.budget.remaining() <= pause:
            break
        session.invocation.clock.sleep(pause)
        reading = read_bucket(session.tables, bucket.arn)
        if reading.state != "not_encrypted":
            break
    return reading
