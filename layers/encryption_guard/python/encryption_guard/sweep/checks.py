"""Check one bucket of a sweep: read it, decide, encrypt it if necessary, and read it back.

A finding shows the encryption that a GET returned, not the one that a PUT confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import LATE_AFTER_MS, Encrypted, Outcome, process_bucket
from encryption_guard.enforcement.policy import (
    Cause,
    Decision,
    FoundBucket,
    FoundBy,
    Skip,
    decide,
)
from encryption_guard.errors import DeadLetterNotWritten, Throttled, Unavailable
from encryption_guard.services.inventory import ListedBucket, read_bucket
from encryption_guard.services.oss_tables import Reading
from encryption_guard.sweep.findings import Finding, Memory
from encryption_guard.sweep.work_lists import Session

# Function Compute delivers an event for at most this long (maxAsyncEventAgeInSeconds of
# template.yaml). The event of an older unencrypted bucket is lost, or there never was one.
MAX_EVENT_AGE = timedelta(days=1)
# Seconds before each GET: the first one may not show the new encryption yet.
READ_BACK_PAUSES = (0.0, 0.5, 1.0, 2.0)


def unchanged_finding(
    found: Finding, reading: Reading, decision: Decision, *, encrypts: bool
) -> Finding | None:
    """Return the finding of a bucket that needs no PUT, or None if the guard has to encrypt it.

    `found` is the bucket as it was read. If the GET failed, a sweep does not encrypt: the bucket
    may be old, its owner may have chosen a stronger encryption, and the next sweep comes soon. The
    handler of an event encrypts even then, because an event names a new bucket.
    """
    if isinstance(decision, Skip):
        exemption = decision.exemption
        return replace(found, outcome="skipped", reason=decision.reason, exemption=exemption)
    if reading.algorithm:
        return found.with_kept_encryption(reading)
    if reading.state == "unknown":
        return found
    return None if encrypts else replace(found, outcome="detected", reason="would_encrypt")


def cause_of(bucket: ListedBucket, *, now: datetime, seen_encrypted: bool) -> Cause:
    """Return the cause of a missing encryption: `created` for a new bucket, `drift` for any other.

    A bucket is not new if it is older than a day, has no creation time, or was encrypted before.
    """
    at = bucket.created_at
    is_new = at is not None and now - at <= MAX_EVENT_AGE
    return "created" if is_new and not seen_encrypted else "drift"


@dataclass(frozen=True, slots=True)
class BucketChecker:
    """A checker for the buckets of one sweep; with `apply` it encrypts them."""

    dead_letters: DeadLetters
    apply: bool
    memory: Memory
    found_by: FoundBy

    def check(self, scope: Scope, bucket: ListedBucket, session: Session) -> Finding:
        """Check one bucket; record in the memory when it was unencrypted, and when encrypted."""
        reading = read_bucket(session.tables, bucket.arn)
        now, settings = session.tables.now(), session.invocation.settings
        seen_encrypted = bucket.identity in self.memory.seen_encrypted_at
        cause = cause_of(bucket, now=now, seen_encrypted=seen_encrypted)
        record_unencrypted = partial(self.memory.record_unencrypted, bucket.identity, cause=cause)
        if reading.state == "not_encrypted":
            record_unencrypted(session.tables.latest())
        candidate = FoundBucket(bucket.arn, cause, bucket.created_at, bucket.kind, self.found_by)
        read = replace(Finding.of(scope, bucket, reading), found_by=self.found_by)
        decision = decide(candidate, settings, today=now.date())
        encrypts = self.apply and settings.mode == "enforce"
        found = unchanged_finding(read, reading, decision, encrypts=encrypts)
        if not found:
            found, unencrypted_until = self._encrypt(read, bucket, candidate, session)
            record_unencrypted(unencrypted_until)
            if _is_late(bucket, cause, unencrypted_until):
                self.memory.to_audit.add(bucket.identity)
        if found.state == "encrypted":
            self.memory.seen_encrypted_at[bucket.identity] = session.tables.now()
        return found

    def _encrypt(
        self, found: Finding, bucket: ListedBucket, candidate: FoundBucket, session: Session
    ) -> tuple[Finding, datetime]:
        """Encrypt a bucket and read it back.

        Returns the finding, and the time until which the bucket is known to be unencrypted.
        """
        latest = session.tables.latest
        try:
            outcome = self._process(candidate, session)
        except DeadLetterNotWritten as error:
            return found.with_failed_encryption(error), latest()
        except Unavailable as error:
            # The service may have encrypted the bucket although its answer was lost.
            unencrypted_until, reading = latest(), _read_back(bucket, session)
            found = replace(Finding.of(found.scope, bucket, reading), found_by=self.found_by)
            if reading.algorithm:
                return found.with_kept_encryption(reading), unencrypted_until
            return found.with_failed_encryption(error), unencrypted_until
        # If someone else encrypted the bucket first, the exact time is not known.
        unencrypted_until, found = (
            outcome.unencrypted_until or latest(),
            found.with_outcome(outcome),
        )
        if isinstance(outcome, Encrypted):
            found = found.with_read_back(_read_back(bucket, session))
        return found, unencrypted_until

    def _process(self, candidate: FoundBucket, session: Session) -> Outcome:
        invocation = session.invocation
        process = partial(
            process_bucket,
            candidate,
            invocation=invocation,
            tables=session.tables,
            dead_letters=self.dead_letters,
        )
        try:
            return process()
        except Throttled:
            # The GET before a PUT has only two seconds, too few for most pauses.
            session.throttle.wait(invocation.budget.request_deadline())
            return process()


def _is_late(bucket: ListedBucket, cause: Cause, until: datetime) -> bool:
    at = bucket.created_at
    return cause == "drift" or not at or until - at > timedelta(milliseconds=LATE_AFTER_MS)


def _read_back(bucket: ListedBucket, session: Session) -> Reading:
    reading = Reading("unknown", why="No time was left to read the bucket.")
    for pause in READ_BACK_PAUSES:
        if session.invocation.budget.remaining() <= pause:
            break
        session.invocation.clock.sleep(pause)
        reading = read_bucket(session.tables, bucket.arn)
        if reading.state != "not_encrypted":
            break
    return reading
