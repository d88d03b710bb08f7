"""`make bench`: what a cold event and a cold sweep take, and cost, on instances of several sizes.

Function Compute sells computing and memory apart, between 1 and 4 GB for each vCPU:
https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/product-overview/limits-of-usage
How it holds an instance to its share of a CPU is not documented. Here a process is held as Linux
holds a container: in each 100 ms it may run for its share, and stands still for the rest. The
sizes have the least memory that their share allows; the event and its process are those of
cold_start.py. The sweep finds a few buckets, all of them encrypted.

Prices are what CU (compute units) cost at the first tier; what an invocation is billed for is
taken to be all the time from the start of its process to the answer:
https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/product-overview/billing-overview-1
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from layers.encryption_guard.tools.build import REPOSITORY
from tests.benchmarks.artefacts import Artefacts, Variant, prepare
from tests.benchmarks.clients import Ended, Spent, cpu_of
from tests.benchmarks.cold_rounds import Cold, Instances
from tests.benchmarks.service import running_service
from tests.benchmarks.stages import stages

PERIOD = 0.1
# How often it is looked whether a share is used up; a share is exceeded by so much at most.
STEP = 0.001
CU_PER_VCPU_SECOND, CU_PER_GB_SECOND, CU_PER_INVOCATION = 1, 0.15, 75 / 10_000
DOLLARS_PER_CU = 0.00002
ROUNDS, DROPPED = 7, 1


@dataclass(frozen=True)
class Size:
    """An instance: its share of CPUs, and its memory in MB."""

    vcpu: float
    memory: int

    @property
    def name(self) -> str:
        """As it stands in a table, and in a bucket's name."""
        return f"{self.vcpu:g} vCPU, {self.memory} MB"

    def dollars(self, seconds: float) -> float:
        """What an invocation costs that takes so long."""
        rate = self.vcpu * CU_PER_VCPU_SECOND + self.memory / 1024 * CU_PER_GB_SECOND
        return (seconds * rate + CU_PER_INVOCATION) * DOLLARS_PER_CU


SIZES = (
    *(Size(0.05, 128), Size(0.1, 128), Size(0.25, 256), Size(0.5, 512)),
    *(Size(1, 1024), Size(2, 2048)),
)
SWEEP_SIZES = (Size(0.05, 128), Size(0.25, 256), Size(1, 1024))
SWEPT = [f"swept-{number}" for number in range(10)]
TIMER = REPOSITORY / "events" / "timer.json"

Measured = Mapping[Size, Sequence[Cold]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures of every round."""
    parser = argparse.ArgumentParser(description="Time cold instances of each size.")
    written = Path("build/instance_sizes.json")
    parser.add_argument("--json", type=Path, metavar="FILE", default=written, help=f"{written}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        artefacts = prepare(Path(folder))
        measured = {
            "a cold event": events(artefacts),
            f"a cold sweep of {len(SWEPT)} buckets": sweeps(artefacts),
        }
    for title, runs in measured.items():
        Console(highlight=False, width=100).print(table(title, runs))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    told = {title: seconds(runs) for title, runs in measured.items()}
    options.json.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def events(artefacts: Artefacts) -> Measured:
    """Some rounds in which each size has its turn; the first does not count."""
    rounds = range(DROPPED + ROUNDS)
    buckets = {
        (size, number): f"size-{SIZES.index(size)}-{number}" for size in SIZES for number in rounds
    }
    trust = artefacts.folder / "trust.pem"
    with running_service(trust, list(buckets.values())) as service:
        start = Instances.of(artefacts, trust, service)
        runs = {
            (size, number): cold(
                start, artefacts.variants["ours"], buckets[size, number], size.vcpu
            )
            for number in rounds
            for size in SIZES
        }
        seen, _ = service.seen()
    if seen.encrypted != set(buckets.values()):
        raise RuntimeError(f"only {len(seen.encrypted)} of {len(buckets)} buckets were encrypted")
    return {size: [runs[size, number] for number in rounds[DROPPED:]] for size in SIZES}


def sweeps(artefacts: Artefacts) -> Measured:
    """The same for the timer; the first sweep encrypts what the others find encrypted."""
    trust = artefacts.folder / "trust.pem"
    with running_service(trust, SWEPT) as service:
        start = replace(Instances.of(artefacts, trust, service), event=TIMER)
        rounds = [
            {size: cold(start, artefacts.sweep, "", size.vcpu) for size in SWEEP_SIZES}
            for _ in range(DROPPED + ROUNDS)
        ]
        seen, _ = service.seen()
    # The first sweep looks again before it encrypts, and once more after.
    asked = ("GET 200", "GET 200", "PUT 200", *["GET 200"] * (len(rounds) * len(SWEEP_SIZES)))
    wrong = [name for name in SWEPT if seen.asked.get(name) != asked]
    if wrong:
        raise RuntimeError(f"not asked for as they should be were {', '.join(wrong)}")
    return {size: [turns[size] for turns in rounds[DROPPED:]] for size in SWEEP_SIZES}


def cold(start: Instances, ours: Variant, bucket: str, vcpu: float) -> Cold:
    """A fresh process for one invocation, held to its share."""
    process = held(start.command("once", ours, bucket), start.inherited, vcpu)
    return Cold(process.spent, stages(process), int(process.output.split()[-1]))


def held(command: Sequence[str], inherited: Mapping[str, str], vcpu: float) -> Ended:
    """Run a process that has so much of a CPU; raises RuntimeError unless it ends with 0."""
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=inherited, stdout=output)
        cpu = hold(process, vcpu, started)
        if process.returncode:
            raise RuntimeError(f"a measured process ended with {process.returncode}")
        output.seek(0)
        spent = Spent(cpu, time.monotonic() - started)
        return Ended(spent, started, output.read(), "")


def hold(process: subprocess.Popen[bytes], vcpu: float, started: float) -> float:
    """Let a process have so much of a CPU until it ends; its CPU seconds."""
    cpu = before = 0.0
    period_ends = started + PERIOD
    while process.poll() is None:
        cpu = cpu_of(process.pid)
        if cpu - before >= vcpu * PERIOD:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(max(period_ends - time.monotonic(), 0))
            os.kill(process.pid, signal.SIGCONT)
        if time.monotonic() >= period_ends:
            before, period_ends = cpu, period_ends + PERIOD
        time.sleep(STEP)
    return cpu


def seconds(measured: Measured) -> dict[str, list[Spent]]:
    """CPU and wall of each run, by the name of the size."""
    return {size.name: [one.answered for one in runs] for size, runs in measured.items()}


def table(title: str, measured: Measured) -> Table:
    """A line for each size."""
    found = Table(title, box=box.SIMPLE, pad_edge=False)
    names = ("ms to the answer", "least", "CPU ms", "peak MiB", "$ for a million", "times 1 vCPU")
    for name in names:
        found.add_column(name, justify="right", no_wrap=True)
    whole = median(one.answered.wall for one in measured[Size(1, 1024)])
    for size, runs in measured.items():
        walls = [one.answered.wall for one in runs]
        found.add_row(
            size.name,
            f"{1000 * median(walls):.0f}",
            f"{1000 * min(walls):.0f}",
            f"{1000 * median(one.answered.cpu for one in runs):.0f}",
            f"{median(one.peak for one in runs) / 1024:.1f}",
            f"{1e6 * size.dollars(median(walls)):.2f}",
            f"{median(walls) / whole:.1f}",
        )
    return found


if __name__ == "__main__":
    main()
