"""`make bench`: what a cold event and a cold sweep take, and cost, on instances of several sizes.

How Function Compute holds an instance to its share of a CPU is not documented. Here a process is
held as Linux holds a container: in each 100 ms it may run for its share, and stands still for the
rest. The sizes have the least memory that their share allows; the event and its process are those
of cold_start.py. The sweep finds a few buckets, all of them encrypted; a full audit reads their
tables too. Both are without the watch, which would wait.

Sizes and prices are those of tools/costs.py; what an invocation is billed for is taken to be all
the time from the start of its process to the answer.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from layers.encryption_guard.tools.build import REPOSITORY
from layers.encryption_guard.tools.costs import SIZES as SOLD
from layers.encryption_guard.tools.costs import SMALLEST, WITHOUT_WATCH, Size
from tests.benchmarks.artefacts import Artefacts, Variant, prepare
from tests.benchmarks.clients import Ended, Spent, cpu_of
from tests.benchmarks.cold_rounds import Cold, Instances
from tests.benchmarks.service import running_service
from tests.benchmarks.shown import CONSOLE, figures_table, write
from tests.benchmarks.stages import stages

PERIOD = 0.1
# How often it is looked whether a share is used up; a share is exceeded by so much at most.
STEP = 0.001
ROUNDS, DROPPED, AUDIT_ROUNDS = 7, 1, 3
WHOLE = Size(1, 1024)
SIZES = (*SOLD, Size(2, 2048))
SWEEP_SIZES = (SMALLEST, WITHOUT_WATCH, WHOLE)
AUDIT_SIZES = (SMALLEST, Size(0.1, 128), Size(0.25, 256), WHOLE)
SWEPT = [f"swept-{number}" for number in range(10)]
# In each bucket; an answer takes so many seconds.
TABLES, ANSWER_SECONDS = 100, 0.02
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
            f"a full audit of {len(SWEPT)} buckets with {TABLES} tables each": audits(artefacts),
        }
    CONSOLE.print(*(table(title, runs) for title, runs in measured.items()))
    write(options.json, {title: seconds(runs) for title, runs in measured.items()})


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
        start = timer(Instances.of(artefacts, trust, service), "late")
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


def audits(artefacts: Artefacts) -> Measured:
    """The timer again, with every table: each is read by a request of its own."""
    trust = artefacts.folder / "trust.pem"
    with running_service(trust, SWEPT, tables=TABLES, delay=ANSWER_SECONDS) as service:
        start = timer(Instances.of(artefacts, trust, service), "true")
        rounds = [
            {size: cold(start, artefacts.sweep, "", size.vcpu) for size in AUDIT_SIZES}
            for _ in range(AUDIT_ROUNDS)
        ]
        seen, _ = service.seen()
    # A list of buckets; of each bucket its encryption, a list of namespaces and one of tables.
    each = 1 + len(SWEPT) * (3 + TABLES)
    if seen.requests != each * len(rounds) * len(AUDIT_SIZES) or seen.statuses - {200}:
        raise RuntimeError(f"{seen.requests} requests were answered with {set(seen.statuses)}")
    return {size: [turns[size] for turns in rounds] for size in AUDIT_SIZES}


def timer(start: Instances, audit: str) -> Instances:
    """The same instances, for events of the timer, without the watch."""
    variables = {"GUARD_WATCH_SECONDS": "0", "GUARD_AUDIT_TABLES": audit}
    return replace(start, event=TIMER, inherited={**start.inherited, **variables})


def cold(start: Instances, ours: Variant, bucket: str, vcpu: float) -> Cold:
    """A fresh process for one invocation, held to its share."""
    process = held(start.command("once", ours, bucket), start.inherited, vcpu)
    return Cold(process.spent, stages(process), int(process.output.split()[-1]))


def held(
    command: Sequence[str], inherited: Mapping[str, str], vcpu: float, given: bytes = b""
) -> Ended:
    """Run a process that has so much of a CPU; raises RuntimeError unless it ends with 0."""
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=inherited, stdin=subprocess.PIPE, stdout=output)
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        cpu = hold(process, vcpu, started)
        if process.returncode:
            raise RuntimeError(f"a measured process ended with {process.returncode}")
        output.seek(0)
        spent = Spent(cpu, time.monotonic() - started)
        return Ended(spent, started, output.read(), "")


def hold(process: subprocess.Popen[Any], vcpu: float, started: float) -> float:
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
    names = ("ms to the answer", "least", "CPU ms", "peak MiB", "$ for a million", "times 1 vCPU")
    found = figures_table(title, figures=names)
    whole = median(one.answered.wall for one in measured[WHOLE])
    for size, runs in measured.items():
        walls = [one.answered.wall for one in runs]
        found.add_row(
            size.name,
            f"{1000 * median(walls):.0f}",
            f"{1000 * min(walls):.0f}",
            f"{1000 * median(one.answered.cpu for one in runs):.0f}",
            f"{median(one.peak for one in runs) / 1024:.1f}",
            f"{1e6 * size.use(median(walls)).dollars:.2f}",
            f"{median(walls) / whole:.1f}",
        )
    return found


if __name__ == "__main__":
    main()
