"""`make bench`: whether the smallest instances keep the pace of the watch, and in what memory.

An instance of the sweep function is held to its share of a CPU as in instance_sizes.py, and runs
the deployed layer. Its timer fires each minute, in real time. It watches eight regions with ten or
eighty encrypted buckets in all, which an emulated OSS Tables in another process has: over TLS, and
20 ms before each answer. The pace is what that service saw: the time between two lists of the same
region. The first tick comes when the instance is initialized and makes a full sweep; those after
it only watch. An hour's CPU is extrapolated from these minutes.

All instances run at once: what they are held to is less than half a CPU in all.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.table import Table

from layers.encryption_guard.tools.costs import Size
from tests.benchmarks.artefacts import Artefacts, prepare, trust_also
from tests.benchmarks.case import REGION
from tests.benchmarks.clients import Lasting, cpu_of, deployed_environment, lasting
from tests.benchmarks.cold_rounds import program
from tests.benchmarks.instance_sizes import TIMER, hold
from tests.benchmarks.pace_figures import PHASES, Asked, Costs, Held
from tests.benchmarks.service import KEY, trusted_authority
from tests.benchmarks.service_process import running
from tests.benchmarks.shown import CONSOLE, figures_table, write
from tests.emulators.faults import Delay, Fault
from tests.emulators.oss_tables import OssTables

SIZES = (Size(0.05, 128), Size(0.1, 128))
KNOWN = (10, 80)
REGIONS = (
    *(REGION, "cn-shanghai", "cn-beijing", "cn-shenzhen"),
    *("ap-southeast-1", "ap-northeast-1", "eu-central-1", "us-west-1"),
)
ANSWER_SECONDS = 0.02
MINUTE = 60.0
PATIENCE_SECONDS = 60
WRITTEN = Path("build/pace.json")
_SCOPE = re.compile(r"/([a-z0-9-]+)/osstables/aliyun_v4_request")


@dataclass(frozen=True)
class Case:
    """An instance, and how many buckets it knows."""

    size: Size
    known: int

    @property
    def name(self) -> str:
        """As it stands in a table."""
        return f"{self.size.name}, {self.known} buckets"


CASES = [Case(size, known) for size in SIZES for known in KNOWN]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Measure the pace of small instances.")
    parser.add_argument("--minutes", type=int, default=2, help="at least 2 (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=WRITTEN, help=f"{WRITTEN}")
    options = parser.parse_args(arguments)
    if options.minutes < 2:
        parser.error(f"--minutes is {options.minutes}: the first has a full sweep, so take 2")
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(prepare(Path(folder)), options.minutes)
    document = {case.name: held.document() for case, held in measured.items()}
    CONSOLE.print(*tables(document))
    write(options.json, document)


def measure(artefacts: Artefacts, minutes: int) -> dict[Case, Held]:
    """All cases at once; RuntimeError if an instance ends before its time."""
    trust = artefacts.folder / "trust.pem"
    with running(_serve, trust) as (urls, line), ExitStack() as stack:
        trust_also(artefacts.authorities, trust)
        instances = [
            stack.enter_context(held_instance(artefacts, trust, url, case.size.vcpu))
            for case, url in zip(CASES, urls, strict=True)
        ]
        for instance in instances:
            instance.wait_until_ready()
        started = time.monotonic()
        ticks = [MINUTE * number for number in range(minutes)]
        samples: list[list[float]] = []
        for tick in [*ticks, MINUTE * minutes]:
            time.sleep(max(started + tick - time.monotonic(), 0))
            samples.append([instance.cpu for instance in instances])
            if tick in ticks:
                for instance in instances:
                    instance.tick()
        peaks = [instance.peak for instance in instances]
        line.send(started)
        asked: list[list[Asked]] = line.recv()
    spent = [
        Costs([after - before for before, after in pairwise(each)], peak)
        for each, peak in zip(zip(*samples, strict=True), peaks, strict=True)
    ]
    each_case = zip(CASES, asked, spent, strict=True)
    return {case: Held(requests, ticks, cpu) for case, requests, cpu in each_case}


@dataclass(frozen=True)
class Instance:
    """A process that is held to its share, from outside."""

    client: Lasting

    def wait_until_ready(self) -> None:
        """Wait until it has imported and initialized the function."""
        if not self.client.told():
            raise RuntimeError("an instance ended before it was ready")

    def tick(self) -> None:
        """The timer fires."""
        self.client.tell("")

    @property
    def cpu(self) -> float:
        """Seconds so far; RuntimeError if it has ended."""
        process = self.client.process
        if process.poll() is not None:
            raise RuntimeError(f"an instance ended with {process.returncode}")
        return cpu_of(process.pid)

    @property
    def peak(self) -> int:
        """The most memory so far, in KiB."""
        status = Path(f"/proc/{self.client.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM:" in line)


@contextmanager
def held_instance(artefacts: Artefacts, trust: Path, url: str, vcpu: float) -> Iterator[Instance]:
    """Start the sweep function in a process; it ends with the block."""
    variables = deployed_environment(
        trust, GUARD_OSS_TABLES_ENDPOINT=url, GUARD_SWEEP_REGIONS=",".join(REGIONS)
    )
    command = program(artefacts.python.executable, "ticks", artefacts.sweep, TIMER)
    with lasting(command, variables) as client:
        holding = threading.Thread(target=hold, args=(client.process, vcpu, time.monotonic()))
        holding.start()
        try:
            yield Instance(client)
        finally:
            client.process.kill()
            holding.join()


def _serve(line: Connection, trust: Path) -> None:
    """A service for each case."""
    authority = trusted_authority(trust)
    with ExitStack() as stack:
        services = [
            stack.enter_context(OssTables(KEY, bucket_quota=None, authority=authority))
            for _ in CASES
        ]
        for case, service in zip(CASES, services, strict=True):
            service.faults.add(Fault(Delay(ANSWER_SECONDS), times=None))
            for number in range(case.known):
                region = REGIONS[number % len(REGIONS)]
                service.plant(f"known-{number}", region=region, encryption="AES256")
        line.send([service.url for service in services])
        try:
            since = time.time() - time.monotonic() + line.recv()
        except EOFError:
            return
        line.send([list(_asked(service, since)) for service in services])


def _asked(service: OssTables, since: float) -> Iterator[Asked]:
    for each in service.requests:
        found = _SCOPE.search(each.headers.get("authorization", ""))
        region = found[1] if found else ""
        yield Asked(each.at.timestamp() - since, region, each.operation or "")


def tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """The pace, then what it costs."""
    pace = figures_table(
        *("instance", "in"),
        figures=("intervals", "median", "longest", "late by more than 1 s"),
        title="between two lists of a region, s",
    )
    spent = figures_table("instance", figures=("full sweep, s", "peak MiB", "CPU s an hour"))
    for name, figures in document.items():
        for phase in PHASES:
            if row := figures["pace"].get(phase):
                numbers = (f"{row['median']:.2f}", f"{row['longest']:.2f}", f"{row['late']}")
                pace.add_row(name, phase, f"{row['intervals']}", *numbers)
        columns = ("full_sweep_seconds", "peak_mib", "cpu_seconds_an_hour")
        spent.add_row(name, *(f"{figures[column]:.1f}" for column in columns))
    yield pace
    yield spent


if __name__ == "__main__":
    main()
