"""`make bench`: an organization in shares, beside one call for all of it, and beside the SDK.

A hundred accounts have ten table buckets, all encrypted, in each of eight regions. Every answer
comes after 20 ms. The timer's call and each share are cold instances of the deployed layer, at most
ten at a time, and each is held to a tenth of a CPU as in instance_sizes.py; so is the one call. It
has the same workers and connections as a share. Wall time is from the timer to the last result, the
start of Python included. Without the hold the same is printed, and not judged: it says what this
machine's own CPUs allow.

CPU is that of a share of ten accounts in a lasting process without a hold, the taking of their
roles included, beside the vendor's client with as many threads and connections, which gets keys of
the members for nothing. In a round each has its turn, in changing order; the ratio is the median of
the rounds' own. Memory is the peak of a share, without the watch and with it for its 55 seconds.

The watch lists every region of every account each five seconds. Whether a share of ten accounts can
do so in a tenth of a CPU, and how many cannot, says the time between two of these lists.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from encryption_guard.sweep.shares import Share
from tests.benchmarks.artefacts import Artefacts, prepare
from tests.benchmarks.clients import Lasting, deployed_environment, lasting
from tests.benchmarks.cold_rounds import program
from tests.benchmarks.instance_sizes import TIMER, held
from tests.benchmarks.organization_service import (
    BUCKETS,
    REGIONS,
    Service,
    members,
    running_service,
)
from tests.benchmarks.service import KEY
from tests.benchmarks.shown import CONSOLE, write
from tests.emulators.function_compute_api import FunctionComputeApi

ACCOUNTS, PER_SHARE, AT_ONCE = 100, 10, 10
VCPU = 0.1
ROUNDS = 5
# Shares of so many accounts, with the watch.
WATCHED = (PER_SHARE, 20, 40)
ROOT = Path(__file__).parents[2]
WRITTEN = Path("build/organization.json")
FUNCTION = "sweep"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Measure a sweep of an organization.")
    parser.add_argument("--json", type=Path, metavar="FILE", default=WRITTEN, help=f"{WRITTEN}")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, help=f"(default: {ACCOUNTS})")
    options = parser.parse_args(arguments)
    if options.accounts <= sum(WATCHED):
        parser.error(
            f"--accounts is {options.accounts}: the watched shares need more than {sum(WATCHED)}"
        )
    with tempfile.TemporaryDirectory() as folder, running_service(options.accounts) as service:
        artefacts = prepare(Path(folder))
        document = measure(Organization(artefacts, service, options.accounts))
    CONSOLE.print(table(document))
    write(options.json, document)


def measure(organization: Organization) -> dict[str, Any]:
    """All figures; RuntimeError if somebody did not read every bucket once."""
    slowed = {
        "shares": organization.in_shares(VCPU),
        "one call": organization.in_one_call(VCPU),
    }
    free = {
        "shares": organization.in_shares(None),
        "one call": organization.in_one_call(None),
    }
    rounds = beside_the_sdk(organization)
    watching = organization.watched_shares()
    peaks = [*slowed["shares"].peaks, watching[PER_SHARE].peak]
    return {
        "wall_ratio": slowed["shares"].wall / slowed["one call"].wall,
        "cpu_ratio_to_sdk": median(each["ours"] / each["official_sdk"] for each in rounds),
        "peak_mib": max(peaks) / 1024,
        "wall_ratio_without_hold": free["shares"].wall / free["one call"].wall,
        "wall_seconds": {name: each.wall for name, each in slowed.items()},
        "vcpu_of_a_held_call": {name: median(each.vcpus) for name, each in slowed.items()},
        "wall_seconds_without_hold": {name: each.wall for name, each in free.items()},
        "cpu_ms_a_bucket": {
            name: 1000 * median(each[name] for each in rounds) / (PER_SHARE * BUCKETS_EACH)
            for name in ("ours", "official_sdk")
        },
        "peak_mib_with_watch": {f"{n}": each.peak / 1024 for n, each in watching.items()},
        "watch_interval_seconds": {
            f"{n} {name}": figure
            for n, each in watching.items()
            for name, figure in each.intervals.items()
        },
    }


BUCKETS_EACH = BUCKETS * len(REGIONS)


@dataclass
class Swept:
    """The results of some calls: seconds until the last one, and the most memory of each in KiB."""

    wall: float = 0.0
    peaks: list[int] = field(default_factory=list)
    vcpus: list[float] = field(default_factory=list)
    encrypted: int = 0

    def add(self, call: Call) -> None:
        """Count what a call found."""
        self.peaks.append(call.peak)
        self.vcpus.append(call.vcpu)
        self.encrypted += call.result["totals"]["encrypted"]


@dataclass(frozen=True)
class Call:
    """What a call of the function returned, its most memory in KiB, and the vCPUs that it had."""

    result: Mapping[str, Any]
    peak: int
    vcpu: float


@dataclass(frozen=True)
class Watched:
    """The most memory of a share in KiB, and the seconds between two lists of the same region."""

    peak: int
    seconds: Sequence[float]

    @property
    def intervals(self) -> dict[str, float]:
        """The median, the 95th percentile and the longest."""
        ordered = sorted(self.seconds)
        return {
            "median": median(ordered),
            "p95": ordered[int(0.95 * len(ordered))],
            "longest": ordered[-1],
        }


@dataclass(frozen=True)
class Organization:
    """The accounts, who answers for them, and how the function is started."""

    artefacts: Artefacts
    service: Service
    accounts: int

    def in_one_call(self, vcpu: float | None) -> Swept:
        """The timer's call sweeps all accounts."""
        swept = Swept()
        started = time.monotonic()
        swept.add(self.call(timer_event(), vcpu, GUARD_ACCOUNTS_PER_SHARE="1000"))
        swept.wall = time.monotonic() - started
        return self.checked(swept)

    def in_shares(self, vcpu: float | None) -> Swept:
        """The timer's call starts shares; each is another instance."""
        swept, lock = Swept(), threading.Lock()

        def share(payload: bytes) -> None:
            call = self.call(payload, vcpu)
            with lock:
                swept.add(call)

        with FunctionComputeApi(KEY, functions={FUNCTION: share}, workers=AT_ONCE) as api:
            started = time.monotonic()
            call = self.call(timer_event(), vcpu, GUARD_FC_ENDPOINT=api.url)
            api.join(timeout=1200)
            swept.wall = time.monotonic() - started
        if len(call.result["shares"]) != -(-self.accounts // PER_SHARE):
            raise RuntimeError(f"{len(call.result['shares'])} shares were started")
        return self.checked(swept)

    def watched_shares(self) -> dict[int, Watched]:
        """Shares of several sizes with the watch, as it is deployed, all at the same time."""
        ids = iter(members(self.accounts))
        shares = {number: tuple(islice(ids, number)) for number in WATCHED}
        with ThreadPoolExecutor(len(shares)) as pool:
            calls = [pool.submit(self.watched, account_ids) for account_ids in shares.values()]
            peaks = [call.result().peak for call in calls]
        listed_at = self.service.seen().listed_at
        return {
            number: Watched(
                peak,
                [
                    after - before
                    for (account, _), times in listed_at.items()
                    if account in account_ids
                    for before, after in pairwise(times)
                ],
            )
            for (number, account_ids), peak in zip(shares.items(), peaks, strict=True)
        }

    def watched(self, account_ids: tuple[str, ...]) -> Call:
        """A share with the watch; RuntimeError if it did not find every bucket."""
        share = Share(account_ids, datetime.now(timezone.utc))
        call = self.call(share.payload, VCPU, GUARD_WATCH_SECONDS="5")
        totals = call.result["totals"]
        if totals["encrypted"] != len(account_ids) * BUCKETS_EACH:
            raise RuntimeError(f"a share of {len(account_ids)} accounts found {totals}")
        return call

    def checked(self, swept: Swept) -> Swept:
        """Raise RuntimeError if not every bucket was read with the key of its account.

        A process that stands still may miss an answer, and ask again.
        """
        seen, expected = self.service.seen(), self.accounts * BUCKETS_EACH
        found = (swept.encrypted, len(seen.arns), seen.wrong)
        if found != (expected, expected, 0) or seen.reads > 1.02 * expected:
            raise RuntimeError(f"{expected} buckets were to be read; {seen.reads}, {found} were")
        return swept

    def call(self, event: bytes, vcpu: float | None, **variables: str) -> Call:
        """Invoke the function in a fresh process that has so much of a CPU."""
        command = program(self.artefacts.python.executable, "invoked", self.artefacts.sweep, TIMER)
        most = 1000.0 if vcpu is None else vcpu
        ended = held(command, self.variables() | variables, most, event)
        return Call(**json.loads(ended.output), vcpu=ended.spent.cpu / ended.spent.wall)

    def variables(self) -> dict[str, str]:
        """The environment of the function."""
        return deployed_environment(
            self.artefacts.folder / "no-such-file",
            FC_FUNCTION_NAME=FUNCTION,
            GUARD_ACCOUNTS="organization",
            GUARD_ACCOUNTS_PER_SHARE=str(PER_SHARE),
            GUARD_OSS_TABLES_ENDPOINT=self.service.endpoint,
            GUARD_STS_ENDPOINT=self.service.endpoint,
            GUARD_DIRECTORY_ENDPOINT=self.service.endpoint,
            GUARD_SWEEP_REGIONS=",".join(REGIONS),
            GUARD_SWEEP_EVERY="0",
            GUARD_WATCH_SECONDS="0",
        )


def timer_event() -> bytes:
    """What the timer sends now."""
    now = datetime.now(timezone.utc)
    return json.dumps({"triggerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}", "payload": ""}).encode()


def beside_the_sdk(organization: Organization) -> list[dict[str, float]]:
    """The CPU seconds of a share in each round, of ours and of the SDK; the first is dropped."""
    share = members(organization.accounts)[:PER_SHARE]
    expected = len(share) * BUCKETS_EACH
    rounds: list[dict[str, float]] = []
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(running_client(name, organization))
            for name in ("ours", "official_sdk")
        }
        for number in range(1 + ROUNDS):
            spent = {}
            for name in sorted(clients, reverse=bool(number % 2)):
                clients[name].tell(" ".join(share))
                answer = json.loads(clients[name].told())
                seen = organization.service.seen()
                found = (answer["encrypted"], seen.reads, seen.lists, seen.wrong)
                if found != (expected, expected, len(share) * len(REGIONS), 0):
                    raise RuntimeError(f"{name} was to read {expected} buckets; seen was {found}")
                spent[name] = answer["cpu"]
            rounds.append(spent)
    return rounds[1:]


def running_client(name: str, organization: Organization) -> AbstractContextManager[Lasting]:
    """Start a process that reads the buckets of accounts; it ends with the block."""
    paths = f"{ROOT}:{ROOT / 'layers' / 'encryption_guard' / 'python'}"
    command = [
        *(sys.executable, "-B", "-m", "tests.benchmarks.organization_clients", name),
        organization.service.endpoint,
    ]
    return lasting(command, organization.variables() | {"PYTHONPATH": paths}, ROOT)


def table(document: Mapping[str, Any]) -> Table:
    """A line for each figure."""
    shown = Table("an organization", "figure", "goal", title=None)
    goals = {"wall_ratio": 0.25, "cpu_ratio_to_sdk": 0.80, "peak_mib": 48}
    for name, value in document.items():
        each = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in each:
            goal = f"at most {goals[name]:g}" if name in goals else ""
            shown.add_row(f"{name} {part}".strip(), f"{number:.2f}", goal)
    return shown


if __name__ == "__main__":
    main()
