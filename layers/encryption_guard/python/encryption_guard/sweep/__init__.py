"""A sweep: check every table bucket of some accounts and regions.

list ─▶ check: read, decide, encrypt an unencrypted bucket, read back
  ├─▶ next page             after all buckets of a region, for all or for those encrypted late:
  └─▶ list again (watch)    audit: namespaces ─▶ tables ─▶ read

Each region has its own few threads, and the regions run side by side. A failure is a finding of its
own: the sweep goes on with the other buckets and regions. A bucket that the sweep does not reach
is a finding too; the next sweep starts from the beginning, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import MIN_EVENT_SECONDS
from encryption_guard.enforcement.policy import KINDS, FoundBy
from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED
from encryption_guard.errors import NotPrepared, Unavailable
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.inventory import BucketIdentity, ListedBucket, bucket_list
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import TableAudit
from encryption_guard.sweep.accounts import AccountEntries, Enter, enter_own
from encryption_guard.sweep.checks import BucketChecker
from encryption_guard.sweep.findings import (
    ENCRYPTED_SINCE_UNKNOWN,
    FAILED,
    NOT_REACHED,
    Finding,
    Memory,
)
from encryption_guard.sweep.table_audit import AuditedBucket, audit_step
from encryption_guard.sweep.watch import LatestFindings, Pace, RegionWatch
from encryption_guard.sweep.work_lists import (
    Results,
    Session,
    Step,
    list_step,
    run_steps,
    shuffled,
)
from encryption_guard.untrusted import quoted

# Threads of one region; with more than eight regions, each has fewer.
WORKERS = 8
# For one page, bucket or table, with all its requests, retries and pauses.
STEP_SECONDS = 60.0
# If OSS Tables asks for a longer pause, the sweep leaves the region to the next sweep.
MAX_WAIT_SECONDS = 300.0
# During a pause, a thread checks this often whether the sweep has to stop.
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep; it ends with its invocation's time, or when `should_stop` returns true.

    With `apply` the sweep encrypts. `audit` states whose tables it checks: `true` means all,
    `late` those of the buckets that stayed unencrypted for long. It calls `report` with each
    finding, from the calling thread, and skips the buckets that `is_selected` refuses. `memory`
    holds what the sweeps of one instance share. `expect_more` gets the number of findings that a
    list adds, `listed` their fallbacks, `region_done` each region after its last finding, and
    `warn` a sentence for the operator. `enter_account` returns an invocation with the credentials
    for another account; an account that it cannot enter is one finding, at the end.

    With `reads_all` it first forgets which buckets were checked; others it does not check. With a
    `watch` it lists the regions again, at this pace, and checks new buckets.
    """

    invocation: Invocation
    dead_letters: DeadLetters
    apply: bool
    audit: TableAudit
    report: Callable[[Finding], None]
    memory: Memory = field(default_factory=Memory)
    found_by: FoundBy = "operator"
    reads_all: bool = True
    watch: Pace | None = None
    is_selected: Callable[[TableBucketArn], bool] = lambda _: True
    warn: Callable[[str], object] = lambda _: None
    expect_more: Callable[[int], object] = lambda _: None
    listed: Callable[[Sequence[Finding]], object] = lambda _: None
    region_done: Callable[[str], object] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    workers: int = WORKERS
    enter_account: Enter = enter_own
    _entries: AccountEntries = field(init=False)
    _unexpected: list[Exception] = field(default_factory=list)
    _in_progress: set[BucketIdentity] = field(default_factory=set)
    # The buckets of the last whole list of each region.
    _in_list: dict[Scope, frozenset[BucketIdentity]] = field(default_factory=dict)
    _was_listed: set[Scope] = field(default_factory=set)
    # The late buckets whose tables are audited.
    _audited: dict[TableBucketArn, BucketIdentity] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        entries = AccountEntries(self.enter_account, self.invocation.clock.monotonic)
        object.__setattr__(self, "_entries", entries)

    def check_buckets(self, scopes: Iterable[Scope]) -> None:
        """Check the table buckets of these accounts and regions.

        Raises the first unexpected exception of a step, after all steps have ended.
        """
        unique = dict.fromkeys(scopes)
        if self.reads_all:
            self.memory.forget_checks(unique.keys())
        steps: list[Step] = []
        for scope in unique:
            if self.reads_all or not self.watch:
                steps.append(self._list_step(scope, self.found_by))
            if self.watch:
                steps += self._watch_step(scope, self.watch)
        self._run(steps)

    def audit_tables(self, buckets: Iterable[AuditedBucket]) -> None:
        """Check the tables of these buckets; raises as `check_buckets` does."""
        self._run(audit_step(Scope.of(bucket.arn), bucket) for bucket in buckets)

    def _run(self, steps: Iterable[Step]) -> None:
        # OSS Tables throttles a region, so all accounts of a region share its threads.
        regions: dict[str, list[Step]] = {}
        for step in shuffled(steps, self.invocation.clock):
            regions.setdefault(step.scope.region, []).append(step)
        latest = LatestFindings(self.report) if self.watch else None

        def listed(step: Step, found: Sequence[Finding]) -> None:
            self.listed(found)
            # A list of the watch has all buckets of its region.
            if latest and step.again is not None:
                latest.forget_lists(step.scope)
                buckets = self._in_list.pop(step.scope, None)
                if buckets is not None:
                    latest.forget_missing(step.scope, {arn for arn, _ in buckets})
                    self.memory.forget_missing(step.scope, buckets)

        run_steps(
            regions.values(),
            self._run_step,
            workers=self.workers,
            report=latest.add if latest else self.report,
            expect_more=self.expect_more,
            listed=listed,
            region_done=self.region_done,
        )
        if latest:
            latest.end()
        for finding in self._entries.findings():
            self.report(finding)
        if self._unexpected:
            raise self._unexpected[0]

    def _run_step(self, step: Step) -> Results:
        results: Results = []
        try:
            not_reached = self._wait_for_turn(step) if step.again is None else None
            if not_reached:
                results.append(not_reached)
            else:
                self._run_entered(step, results)
        # One bucket may trigger a bug; the sweep still checks the other buckets.
        except Exception as error:
            self._unexpected.append(error)
            detail = f"The guard failed with an unexpected {type(error).__name__}."
            results.append(replace(step.fallback, reason="error", detail=detail))
        finally:
            self._release(step)
        self._audit_again(results)
        may_repeat = step.again and not self._entries.is_final(step.scope)
        following = step.again() if step.again and may_repeat else None
        return results if following is None else [following, *results]

    def _run_entered(self, step: Step, results: Results) -> None:
        """Add the results of a step, in its account; none if that cannot be entered."""
        session = self._session(step.scope) if step.again is None else None
        if step.again is None and session is None:
            return
        try:
            results.extend(step.run(session))
        except (NotPrepared, ApiRefused) as error:
            # The key of the account ended, and its role was not given again.
            self._entries.leave_out(step.scope, error)

    def _release(self, step: Step) -> None:
        if step.key:
            self._in_progress.discard(step.key)

    def _audit_again(self, results: Results) -> None:
        """Let the next full sweep repeat an audit of a late bucket that was not complete."""
        for found in results:
            if not isinstance(found, Finding) or found.kind != "table" or not found.arn:
                continue
            identity = self._audited.get(found.arn)
            if identity and found.outcome in (FAILED, NOT_REACHED):
                self.memory.to_audit.add(identity)

    def _wait_for_turn(self, step: Step) -> Finding | None:
        """Wait while the service asks to; return a finding if the step cannot run in this sweep."""
        clock, throttle = self.invocation.clock, self._throttle(step.scope)
        while True:
            time_left, pause = self.invocation.budget.remaining(), throttle.left()
            if self.should_stop() or time_left < MIN_EVENT_SECONDS:
                return step.fallback.with_not_reached("The sweep ended before it could check this.")
            if not pause:
                return None
            if pause >= min(time_left, MAX_WAIT_SECONDS):
                why = f"OSS Tables asks to wait {pause:.0f} s, longer than this sweep can wait."
                return step.fallback.with_not_reached(why, reason="throttled")
            clock.sleep(min(pause, POLL_SECONDS))

    def _throttle(self, scope: Scope) -> Throttle:
        return self.memory.throttles.setdefault(scope, Throttle(self.invocation.clock))

    def _session(self, scope: Scope, *, asks_again: bool = False, **changes: Any) -> Session | None:
        """Return a session in the account of the scope; None if that cannot be entered."""
        # The policy denies a bucket of another region, so the swept region counts as configured.
        settings = self.invocation.settings._replace(sweep_regions=(scope.region,), **changes)
        invocation = self.invocation.within(STEP_SECONDS)._replace(settings=settings)
        throttle = self._throttle(scope)
        try:
            invocation = self._entries.enter(scope, invocation, asks_again=asks_again)
            return Session(invocation, OssTables(invocation, throttle), throttle)
        except (NotPrepared, ApiRefused, Unavailable) as error:
            self._entries.leave_out(scope, error)
            return None

    # The steps.

    def _list_step(
        self, scope: Scope, found_by: FoundBy, seen: set[BucketIdentity] | None = None
    ) -> Step:
        make_step = partial(self._bucket_step, scope, found_by, seen)
        return list_step(scope, bucket_list(scope.region), Finding.of_list(scope), make_step)

    def _watch_step(self, scope: Scope, pace: Pace) -> list[Step]:
        """Return the step of the first list; report a region that throttles beyond this call."""
        read = partial(self._list_once, scope)
        clock, throttle = self.invocation.clock, self._throttle(scope)
        watch = RegionWatch(scope, pace, clock, throttle, self.memory.paces, read)
        if first := watch.first():
            return [first]
        if scope in self.memory.paces and not self.reads_all:
            why = "OSS Tables asks to slow down, and the next list is due in a later call."
            self.report(Finding.of_list(scope).with_not_reached(why, reason="throttled"))
        return []

    def _list_once(self, scope: Scope) -> Results:
        """Read a whole list, without a retry: a watch reads it again soon."""
        self._entries.list_again(scope)
        session = self._session(scope, asks_again=True, max_attempts=1)
        results: Results = []
        seen: set[BucketIdentity] = set()
        page = self._list_step(scope, "watch", seen) if session else None
        try:
            while page:
                found, page = list(page.run(session)), None
                for each in found:
                    if isinstance(each, Step) and each.is_list:
                        page = each
                    else:
                        results.append(each)
        except Exception:
            # The steps are lost, so the next list has to find their buckets.
            for each in results:
                if isinstance(each, Step):
                    self._release(each)
            raise
        if session and all(isinstance(each, Step) for each in results):
            self._in_list[scope] = frozenset(seen)
            self._was_listed.add(scope)
        return results

    def _bucket_step(
        self, scope: Scope, found_by: FoundBy, seen: set[BucketIdentity] | None, entry: object
    ) -> Step | None:
        bucket = ListedBucket.read(entry, region=scope.region)
        if seen is not None:
            seen.add(bucket.identity)
        if not self.is_selected(bucket.arn) or not self._needs_check(bucket.identity, found_by):
            return None
        if bucket.kind not in KINDS:
            kind = f"the unknown type {quoted(bucket.kind)}" if bucket.kind else "no type"
            self._warn_once(
                f"OSS Tables lists the table bucket {bucket.arn} with {kind} (known types:"
                " customer, oss). The guard decides by the bucket's name."
            )
        run = partial(self._check_bucket, scope, bucket, found_by)
        # A watch may check a bucket several times. A bucket that appeared since the last list goes
        # first, and does not wait for others that hang.
        is_watch, identity = found_by == "watch", bucket.identity
        name = None if is_watch else " ".join(map(str, identity))
        is_new = self.reads_all or scope in self._was_listed
        is_urgent = is_watch and is_new and identity not in self.memory.failed
        fallback = Finding.of(scope, bucket)
        return Step(scope, fallback, run, name=name, key=identity, is_urgent=is_urgent)

    def _needs_check(self, bucket: BucketIdentity, found_by: FoundBy) -> bool:
        """Return whether a bucket has to be checked, and reserve it for one step."""
        if found_by == "watch" and not self.memory.is_due(bucket, at=self._instant()):
            return False
        with self._lock:
            is_free = bucket not in self._in_progress and bucket not in self.memory.checked
            if is_free:
                self._in_progress.add(bucket)
        return is_free

    def _instant(self) -> float:
        return self.invocation.clock.monotonic()

    def _check_bucket(
        self, scope: Scope, bucket: ListedBucket, found_by: FoundBy, session: Session
    ) -> Iterator[Finding | Step]:
        checker = BucketChecker(self.dead_letters, self.apply, self.memory, found_by)
        found = checker.check(scope, bucket, session)
        self.memory.record_checked(bucket.identity, found, at=self._instant())
        periods = self.memory.unencrypted_periods.get(bucket.identity, ())
        is_protected = found.outcome != "skipped" and found.reason != "gone"
        was_late = bucket.identity in self.memory.to_audit
        is_late = is_protected and was_late and found.state == "encrypted"
        is_audited = is_late if self.audit == "late" else is_protected and self.audit == "true"
        if is_late and self.audit == "false":
            found = replace(found, detail=TABLES_NOT_CHECKED)
        elif is_audited and not periods and found.ok:
            found = replace(found, detail=ENCRYPTED_SINCE_UNKNOWN)
        yield found
        if is_late:
            self.memory.to_audit.discard(bucket.identity)
            self._audited[bucket.arn] = bucket.identity
        if is_audited:
            yield audit_step(scope, AuditedBucket(bucket.arn, periods, bucket.identity[1]))

    def _warn_once(self, sentence: str) -> None:
        # An unknown type concerns all buckets, so one warning is enough.
        with self._lock:
            is_first = not self.memory.has_warned_of_type
            self.memory.has_warned_of_type = True
        if is_first:
            self.warn(sentence)
