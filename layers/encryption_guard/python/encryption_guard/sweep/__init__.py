"""Every table bucket of some regions: list, check, audit.

list ─▶ check: read, plan (pure), encrypt what is not encrypted, read back
  └─▶ next page             when all buckets of a region are done, where asked for:
                            audit: namespaces ─▶ tables ─▶ read

A bucket without encryption is handled as if its creation event had just arrived. Each region has
a few threads of its own, and all regions are swept side by side. What fails is a finding of its
own: the other buckets and regions are swept. What was not reached is a finding, too; the next
sweep begins anew, in another order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import TypeVar

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import (
    SHORTEST_TURN_SECONDS,
    Encrypted,
    Outcome,
    process_event,
)
from encryption_guard.enforcement.policy import CAUSES, KINDS, Cause, leave_alone
from encryption_guard.errors import LetterNotWritten, Throttled, Unavailable
from encryption_guard.events.envelopes import Delivery, open_payload
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Invocation, TimeBudget
from encryption_guard.services.inventory import ListedBucket, bucket_list, read_bucket
from encryption_guard.services.oss_tables import OssTables, Reading
from encryption_guard.settings import Settings
from encryption_guard.sweep.findings import SINCE_WHEN_IS_NOT_KNOWN, Finding, Memory, Seen
from encryption_guard.sweep.table_audit import OpenBucket, audit
from encryption_guard.sweep.work_lists import (
    Results,
    Session,
    Step,
    read_list,
    shuffled,
    work_through,
)
from encryption_guard.untrusted import quoted

# Threads of a region; of more than eight regions each has fewer.
WORKERS = 8
# One page, bucket or table, its retries and pauses included; every request has its share of it.
STEP_SECONDS = 60.0
# As long as an event may be on its way to the creation function (maxAsyncEventAgeInSeconds of
# template.yaml): an older bucket without encryption has lost it, or never had a guard.
EVENT_LASTS = timedelta(days=1)
# A region that asks to wait longer is left to the next sweep.
LONGEST_WAIT_SECONDS = 300.0
# How often a region that waits looks whether the sweep is stopping.
REST_SECONDS = 0.5
# A GET may not show at once what a PUT has done.
READ_BACK_PAUSES = (0.0, 0.5, 1.0, 2.0)

Target = TypeVar("Target", Scope, OpenBucket)


def plan(
    bucket: ListedBucket, reading: Reading, settings: Settings, *, now: datetime, apply: bool
) -> Finding | None:
    """What is found where nothing is to be done about a bucket; None where it is to be encrypted.

    A GET that fails is no reason to overwrite what may be a stronger choice, other than for an
    event: this bucket may be old, and the next sweep comes soon.
    """
    found = Finding.of(bucket, reading)
    leave = leave_alone(bucket.arn.name, settings, today=now.date(), kind=bucket.kind)
    if leave:
        return replace(found, outcome="skipped", reason=leave.reason, exemption=leave.exemption)
    if reading.algorithm:
        return found.kept(reading)
    if reading.state == "unknown":
        return found
    if apply and settings.mode == "enforce":
        return None
    return replace(found, outcome="detected", reason="would_encrypt")


def cause_of(bucket: ListedBucket, *, now: datetime, seen_encrypted: bool) -> Cause:
    """Whether a bucket without encryption is new, or has drifted from how it was or should be."""
    at = bucket.created_at
    is_new = at is not None and now - at <= EVENT_LASTS
    return "created" if is_new and not seen_encrypted else "drift"


def missed_event(bucket: ListedBucket, cause: Cause) -> Delivery:
    """The event that should have come for the bucket; the same bytes in every sweep."""
    record = {
        "eventName": next(name for name, meant in CAUSES.items() if meant == cause),
        "eventTime": bucket.created_at.isoformat() if bucket.created_at else None,
        "responseElements": {"arn": str(bucket.arn)},
    }
    (delivery,) = open_payload(json.dumps(record).encode()).deliveries
    return delivery


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep, over when the budget of its invocation is, or when it is `stopping`.

    With `apply` it encrypts, with `audit` it looks at every table too. Findings are reported as
    they come, from the thread that called. Into `memory` goes when buckets were open or encrypted,
    and that a warning was given. Buckets in `but_for` are passed over. `expect` is called with how
    many more findings there will be, `warn` with a sentence that somebody should read once.
    """

    invocation: Invocation
    dead_letters: DeadLetters
    apply: bool
    audit: bool
    report: Callable[[Finding], None]
    memory: Memory = field(default_factory=Memory)
    but_for: Collection[Seen] = ()
    warn: Callable[[str], object] = lambda _: None
    expect: Callable[[int], object] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    workers: int = WORKERS
    _throttles: dict[Scope, Throttle] = field(default_factory=dict)
    _bugs: list[Exception] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def buckets_of(self, places: Iterable[Scope]) -> None:
        """Sweep the table buckets of these accounts and regions.

        Raises, when all is done, what no step should have run into.
        """
        self._run(dict.fromkeys(places), self._list)

    def tables_of(self, buckets: Iterable[OpenBucket]) -> None:
        """Look at the tables of these buckets; raises as `buckets_of` does."""
        self._run(buckets, lambda bucket: audit(Scope.of(bucket.arn), bucket))

    def _run(self, targets: Iterable[Target], first: Callable[[Target], Step]) -> None:
        regions: dict[str, list[Target]] = {}
        for target in shuffled(targets, self.invocation.clock):
            regions.setdefault(target.region, []).append(target)
        work_through(
            [map(first, targets) for targets in regions.values()],
            self._work,
            workers=self.workers,
            report=self.report,
            expect=self.expect,
        )
        if self._bugs:
            raise self._bugs[0]

    def _work(self, step: Step) -> Results:
        results: Results = []
        try:
            not_reached = self._when_open(step)
            results.extend([not_reached] if not_reached else step.run(self._session(step.where)))
        # A bug that one bucket brings to light must not keep the others from being swept.
        except Exception as error:
            self._bugs.append(error)
            detail = f"The guard itself failed: {type(error).__name__}."
            results.append(replace(step.about, reason="error", detail=detail))
        return results

    def _when_open(self, step: Step) -> Finding | None:
        """Wait as long as the service asks to; a finding where there is no time for that."""
        clock, throttle = self.invocation.clock, self._throttle(step.where)
        while True:
            time_left, pause = self.invocation.budget.remaining(), throttle.left()
            if self.stopping() or time_left < SHORTEST_TURN_SECONDS:
                return step.about.not_reached("The sweep was over before it came to this.")
            if not pause:
                return None
            if pause >= min(time_left, LONGEST_WAIT_SECONDS):
                why = f"OSS Tables asks to wait {pause:.0f} s, which is longer than a sweep waits."
                return step.about.not_reached(why, reason="throttled")
            clock.sleep(min(pause, REST_SECONDS))

    def _throttle(self, where: Scope) -> Throttle:
        return self._throttles.setdefault(where, Throttle(self.invocation.clock))

    def _session(self, where: Scope) -> Session:
        clock, throttle = self.invocation.clock, self._throttle(where)
        end = min(self.invocation.budget.ends_at, clock.monotonic() + STEP_SECONDS)
        invocation = self.invocation._replace(budget=TimeBudget(end, clock))
        return Session(invocation, OssTables(invocation, throttle), throttle)

    # The steps.

    def _list(self, where: Scope) -> Step:
        about = Finding.of_list(where.region)
        return read_list(where, bucket_list(where.region), about, partial(self._bucket, where))

    def _bucket(self, where: Scope, entry: object) -> Step | None:
        bucket = ListedBucket.read(entry, region=where.region)
        if (str(bucket.arn), bucket.created_at) in self.but_for:
            return None
        if bucket.kind not in KINDS:
            self._warn_once(
                f"OSS Tables tells {quoted(bucket.kind) if bucket.kind else 'no type'} of the table"
                f" bucket {bucket.arn}, where customer or oss is known; its name decides."
            )
        run = partial(self._check, where, bucket)
        return Step(where, Finding.of(bucket), run, name=str(bucket.arn))

    def _check(
        self, where: Scope, bucket: ListedBucket, session: Session
    ) -> Iterator[Finding | Step]:
        reading = read_bucket(session.tables, bucket.arn)
        now, settings = session.tables.now(), session.invocation.settings
        found = plan(bucket, reading, settings, now=now, apply=self.apply)
        seen = (str(bucket.arn), bucket.created_at)
        if reading.state == "not_encrypted":
            self.memory.note_open(seen, now)
        if not found:
            found, open_until = self._encrypt(bucket, reading, session)
            self.memory.note_open(seen, open_until)
        if found.state == "encrypted":
            self.memory.encrypted[seen] = session.tables.now()
        times = self.memory.open.get(seen, ())
        is_audited = self.audit and found.outcome != "skipped" and found.reason != "gone"
        if is_audited and not times and found.is_well:
            found = replace(found, detail=SINCE_WHEN_IS_NOT_KNOWN)
        yield found
        if is_audited:
            yield audit(where, OpenBucket(bucket.arn, times))

    def _warn_once(self, sentence: str) -> None:
        # One bucket is as good as all of them.
        with self._lock:
            is_first, self.memory.has_warned = not self.memory.has_warned, True
        if is_first:
            self.warn(sentence)

    def _encrypt(
        self, bucket: ListedBucket, reading: Reading, session: Session
    ) -> tuple[Finding, datetime]:
        """Process the event that was missed, and believe what is read back afterwards.

        Returns until when the bucket is known to have been open, too.
        """
        found, now = Finding.of(bucket, reading), session.tables.now
        try:
            outcome = self._process(bucket, session)
        except LetterNotWritten as error:
            return found.unfinished(error), now()
        except Unavailable as error:
            # The answer to a PUT may be lost after it was done.
            open_until, reading = now(), _read_back(bucket, session)
            found = Finding.of(bucket, reading)
            found = found.kept(reading) if reading.algorithm else found.unfinished(error)
            return found, open_until
        # Scope somebody else was faster, nobody knows by how much.
        open_until, found = outcome.open_until or now(), found.concluded(outcome)
        if isinstance(outcome, Encrypted):
            found = found.read_back(_read_back(bucket, session))
        return found, open_until

    def _process(self, bucket: ListedBucket, session: Session) -> Outcome:
        invocation, seen = session.invocation, (str(bucket.arn), bucket.created_at)
        cause = cause_of(
            bucket, now=session.tables.now(), seen_encrypted=seen in self.memory.encrypted
        )
        # An operator's shell may not know its account; a bucket that it lists is its own.
        account_id = invocation.settings.account_id or bucket.arn.account_id
        own = invocation.settings._replace(
            account_id=account_id, sweep_regions=(bucket.arn.region,)
        )
        process = partial(
            process_event,
            missed_event(bucket, cause),
            invocation=invocation._replace(settings=own),
            tables=session.tables,
            dead_letters=self.dead_letters,
            kind=bucket.kind,
        )
        try:
            return process()
        except Throttled:
            # The GET before a PUT has two seconds of its own: too few for most pauses.
            session.throttle.wait(invocation.budget.request_deadline())
            return process()


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
