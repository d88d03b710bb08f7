"""Every table bucket of some accounts and regions: list, check, audit.

list ─▶ check: read, decide, encrypt what is not encrypted, read back
  └─▶ next page             when all buckets of a region are done, where asked for:
                            audit: namespaces ─▶ tables ─▶ read

Each region has a few threads of its own, and all regions are swept side by side. What fails is a
finding of its own: the other buckets and regions are swept. What was not reached is a finding, too;
the next sweep begins from the start, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import MIN_EVENT_SECONDS
from encryption_guard.enforcement.policy import KINDS
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Invocation
from encryption_guard.services.inventory import BucketIdentity, ListedBucket, bucket_list
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.sweep.checks import Checks
from encryption_guard.sweep.findings import ENCRYPTED_SINCE_UNKNOWN, Finding, Memory
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
# A region that asks to wait longer is left to the next sweep.
MAX_WAIT_SECONDS = 300.0
# How often a region that waits looks whether the sweep is stopping.
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep, over when the budget of its invocation is, or when it is `stopping`.

    With `apply` it encrypts, with `audit` it looks at every table too. Findings are reported as
    they come, from the thread that called. Into `memory` goes when buckets were open or encrypted,
    and that a warning was given. Buckets in `skip` are passed over. `expect` is called with how
    many more findings there will be, `warn` with a sentence that somebody should read once.
    """

    invocation: Invocation
    dead_letters: DeadLetters
    apply: bool
    audit: bool
    report: Callable[[Finding], None]
    memory: Memory = field(default_factory=Memory)
    skip: Collection[BucketIdentity] = ()
    warn: Callable[[str], object] = lambda _: None
    expect: Callable[[int], object] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    workers: int = WORKERS
    _throttles: dict[Scope, Throttle] = field(default_factory=dict)
    _bugs: list[Exception] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def buckets_of(self, scopes: Iterable[Scope]) -> None:
        """Sweep the table buckets of these accounts and regions.

        Raises, when all is done, what no step should have run into.
        """
        self._run(self._list(scope) for scope in dict.fromkeys(scopes))

    def tables_of(self, buckets: Iterable[OpenBucket]) -> None:
        """Look at the tables of these buckets; raises as `buckets_of` does."""
        self._run(audit(Scope.of(bucket.arn), bucket) for bucket in buckets)

    def _run(self, steps: Iterable[Step]) -> None:
        # The accounts of a region share its threads, so that many do not make it throttle.
        regions: dict[str, list[Step]] = {}
        for step in shuffled(steps, self.invocation.clock):
            regions.setdefault(step.scope.region, []).append(step)
        work_through(
            regions.values(),
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
            results.extend([not_reached] if not_reached else step.run(self._session(step.scope)))
        # A bug that one bucket brings to light must not keep the others from being swept.
        except Exception as error:
            self._bugs.append(error)
            detail = f"The guard itself failed: {type(error).__name__}."
            results.append(replace(step.about, reason="error", detail=detail))
        return results

    def _when_open(self, step: Step) -> Finding | None:
        """Wait as long as the service asks to; a finding where there is no time for that."""
        clock, throttle = self.invocation.clock, self._throttle(step.scope)
        while True:
            time_left, pause = self.invocation.budget.remaining(), throttle.left()
            if self.stopping() or time_left < MIN_EVENT_SECONDS:
                return step.about.not_reached("The sweep was over before it came to this.")
            if not pause:
                return None
            if pause >= min(time_left, MAX_WAIT_SECONDS):
                why = f"OSS Tables asks to wait {pause:.0f} s, which is longer than a sweep waits."
                return step.about.not_reached(why, reason="throttled")
            clock.sleep(min(pause, POLL_SECONDS))

    def _throttle(self, scope: Scope) -> Throttle:
        return self._throttles.setdefault(scope, Throttle(self.invocation.clock))

    def _session(self, scope: Scope) -> Session:
        # What somebody has swept is not another deployment's.
        settings = self.invocation.settings._replace(sweep_regions=(scope.region,))
        invocation = self.invocation.within(STEP_SECONDS)._replace(settings=settings)
        throttle = self._throttle(scope)
        return Session(invocation, OssTables(invocation, throttle), throttle)

    # The steps.

    def _list(self, scope: Scope) -> Step:
        buckets = bucket_list(scope.region)
        return read_list(scope, buckets, Finding.of_list(scope), partial(self._bucket, scope))

    def _bucket(self, scope: Scope, entry: object) -> Step | None:
        bucket = ListedBucket.read(entry, region=scope.region)
        if bucket.identity in self.skip:
            return None
        if bucket.kind not in KINDS:
            self._warn_once(
                f"OSS Tables tells {quoted(bucket.kind) if bucket.kind else 'no type'} of the table"
                f" bucket {bucket.arn}, where customer or oss is known; its name decides."
            )
        run = partial(self._check, scope, bucket)
        return Step(scope, Finding.of(scope, bucket), run, name=str(bucket.arn))

    def _check(
        self, scope: Scope, bucket: ListedBucket, session: Session
    ) -> Iterator[Finding | Step]:
        found = Checks(self.dead_letters, self.apply, self.memory).check(scope, bucket, session)
        times = self.memory.open.get(bucket.identity, ())
        is_audited = self.audit and found.outcome != "skipped" and found.reason != "gone"
        if is_audited and not times and found.ok:
            found = replace(found, detail=ENCRYPTED_SINCE_UNKNOWN)
        yield found
        if is_audited:
            yield audit(scope, OpenBucket(bucket.arn, times))

    def _warn_once(self, sentence: str) -> None:
        # One bucket is as good as all of them.
        with self._lock:
            is_first, self.memory.has_warned = not self.memory.has_warned, True
        if is_first:
            self.warn(sentence)
