"""`make bench`: how fast a sweep reads table buckets, and what memory it needs for ten thousand.

All buckets are encrypted, so every client does the same: it lists the buckets of one region and
reads the encryption of each. `official SDK` does so one after the other, as a script of few lines
would; `ours` is the sweep of this package with 1, 8 and 16 workers, a connection for each. What
answers is a process of its own (sweep_service.py), 20 ms after each request, and so is each client,
which keeps its connections. It counts what was asked of it; a client that asked for more or less
than the others ends the benchmark.

In a round each client has its turn, in changing order; a ratio is the median of the rounds' own
ratios. CPU is the client's alone, user and system.

Memory is the peak of a fresh process that sweeps so many buckets, answered at once. What the kernel
tells of a process that ended begins with its parent's, so the process itself says it (VmHWM, Linux
only). Many regions with ten buckets each are like the accounts of an organization.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any, Literal

import certifi
from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.case import REGION
from tests.benchmarks.clients import environment
from tests.benchmarks.put_encryption import versions
from tests.benchmarks.sweep_service import Seen, Service, Stage, bare_rate, running_service

DELAY_SECONDS = 0.02
WARM_UP_BUCKETS = 24
FEW, IN_EACH_REGION = 10, 10
CONNECTIONS = 16

SDK = "official SDK"
CLIENTS = {
    SDK: "open_official_sdk(sys.argv[2])",
    "ours, 1 worker": "open_ours(sys.argv[2], 1)",
    "ours, 8 workers": "open_ours(sys.argv[2], 8)",
    "ours, 16 workers": "open_ours(sys.argv[2], 16)",
}
Measure = Literal["buckets_per_second", "cpu_ms_per_bucket"]
MEASURES: tuple[Measure, Measure] = ("buckets_per_second", "cpu_ms_per_bucket")

_ROOT = str(Path(__file__).parents[2])
_PATH = "import sys; sys.path.insert(0, sys.argv[1]); "
# httpx loads its own command line wherever click is installed; in the layer it is not.
_LAYER = _PATH + "sys.modules['click'] = None; "
_WARM = _LAYER + "from tests.benchmarks.sweep_clients import *; serve({})"

STATUS = Path("/proc/self/status")
# At the very end, whatever way the program ends.
_PEAK = (
    "import atexit; from pathlib import Path; "
    f"atexit.register(lambda: print(Path('{STATUS}').read_text(), file=sys.stderr)); "
)
_COMMAND = (
    _PATH + _PEAK + "from encryption_guard.cli import main; "
    "main(['sweep', '--output', '{}', *(f'--region={{region}}' for region in sys.argv[4:])])"
)
# Each ends with 0 if all buckets were found encrypted; the table is laid out at the end.
ALONE = "the sweep alone"
PROGRAMS = {
    ALONE: _LAYER + _PEAK + "from tests.benchmarks.sweep_clients import open_ours; "
    "sys.exit(open_ours(sys.argv[2])(sys.argv[4:]) != int(sys.argv[3]))",
    "sweep --output json": _COMMAND.format("json"),
    "sweep (a table)": _COMMAND.format("table"),
}


@dataclass(frozen=True)
class Turn:
    """One sweep of one client."""

    buckets_per_second: float
    cpu_ms_per_bucket: float


Round = Mapping[str, Turn]


@dataclass(frozen=True)
class Speed:
    """What the clients did in the counted rounds, and what the service could have answered."""

    rounds: Sequence[Round]
    most_answers: float
    most_answers_delayed: float

    def values(self, client: str, measure: Measure) -> list[float]:
        """Of every round."""
        return [getattr(turns[client], measure) for turns in self.rounds]

    def ratio(self, client: str, measure: Measure, *, to: str = SDK) -> float:
        """The median of the rounds' own ratios."""
        pairs = zip(self.values(client, measure), self.values(to, measure), strict=True)
        return median(one / other for one, other in pairs)


@dataclass(frozen=True)
class Peak:
    """The most memory that a program had, in KiB."""

    program: str
    regions: int
    buckets: int
    kib: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, if asked, write all figures."""
    parser = argparse.ArgumentParser(description="Time a sweep, and weigh its memory.")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--buckets", type=int, default=200, help="in a round; default: 200")
    parser.add_argument("--many", type=int, default=10_000, help="for memory; default: 10000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    speed = measure_speed(options.rounds, options.buckets)
    peaks = measure_peaks(options.many) if STATUS.exists() else []
    show(speed, peaks, options.buckets, Console(highlight=False, width=100))
    if options.json:
        told = document(speed, peaks, options.buckets)
        options.json.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


# Speed.


@dataclass(frozen=True)
class Client:
    """A client in a process of its own that keeps its connections."""

    orders: IO[str]
    reports: IO[str]

    def sweep(self, service: Service, stage: Stage) -> Turn:
        """Sweep once; raises RuntimeError if that is not what everybody does."""
        service.seen(stage)
        self.orders.write(" ".join(stage.regions) + "\n")
        self.orders.flush()
        cpu, wall, encrypted = self.reports.readline().split() or (0, 0, -1)
        _check(service.seen(), stage)
        if int(encrypted) != stage.buckets:
            raise RuntimeError(f"{encrypted} of {stage.buckets} buckets were found encrypted")
        return Turn(stage.buckets / float(wall), 1000 * float(cpu) / stage.buckets)


def measure_speed(rounds: int, buckets: int) -> Speed:
    """Every client in every round; raises RuntimeError if they differ in what they do."""
    stage = Stage({REGION: buckets}, DELAY_SECONDS)
    with running_service() as service, ExitStack() as stack:
        clients = {name: stack.enter_context(_client(name, service)) for name in CLIENTS}
        for client in clients.values():
            client.sweep(service, Stage({REGION: WARM_UP_BUCKETS}, DELAY_SECONDS))
        counted = [_round(clients, number, service, stage) for number in range(rounds)]
        delayed = bare_rate(service, requests=1600, connections=CONNECTIONS)
        service.seen(Stage({REGION: buckets}, 0))
        at_once = bare_rate(service, requests=16_000, connections=CONNECTIONS)
    return Speed(counted, at_once, delayed)


@contextmanager
def _client(name: str, service: Service) -> Iterator[Client]:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _WARM.format(CLIENTS[name]), _ROOT, service.endpoint],
        env=_inherited(service),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process with two pipes has none")
        yield Client(process.stdin, process.stdout)


def _inherited(service: Service) -> dict[str, str]:
    """What an operator's shell may hold: no function's own variables."""
    given = environment(Path(certifi.where()))
    told = {name: value for name, value in given.items() if not name.startswith("FC_")}
    return told | {"GUARD_OSS_TABLES_ENDPOINT": service.endpoint}


def _round(
    clients: Mapping[str, Client], number: int, service: Service, stage: Stage
) -> dict[str, Turn]:
    # Each time another one begins, and every other time backwards.
    first = number % len(clients)
    order = [*list(clients)[first:], *list(clients)[:first]][:: -1 if number % 2 else 1]
    return {name: clients[name].sweep(service, stage) for name in order}


def _check(seen: Seen, stage: Stage) -> None:
    found = (seen.lists, seen.reads, len(seen.arns), seen.others)
    if found != (stage.pages, stage.buckets, stage.buckets, 0):
        raise RuntimeError(
            f"{seen.lists} pages, {seen.reads} reads of {len(seen.arns)} buckets and"
            f" {seen.others} other requests, but there are {stage.pages} pages and"
            f" {stage.buckets} buckets"
        )


# Memory.


def measure_peaks(many: int) -> list[Peak]:
    """Every program with few buckets and with many; the sweep alone also with all in one region."""
    names = (f"{REGION}-{number}" for number in range(many // IN_EACH_REGION))
    few, one = Stage({REGION: FEW}, 0), Stage({REGION: many}, 0)
    several = Stage(dict.fromkeys(names, IN_EACH_REGION), 0)
    wanted = [
        (name, stage)
        for name in PROGRAMS
        for stage in ((few, one, several) if name == ALONE else (few, several))
    ]
    # Nothing is timed here, so they need not wait for each other.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda asked: measure_peak(PROGRAMS[asked[0]], asked[1]), wanted)
        return [
            Peak(name, len(stage.regions), stage.buckets, kib)
            for (name, stage), kib in zip(wanted, found, strict=True)
        ]


def measure_peak(program: str, stage: Stage) -> int:
    """KiB at the peak of a fresh process; raises RuntimeError if it does not sweep all buckets.

    The program finds in `sys.argv` this repository, the endpoint, the number of buckets and the
    regions; it ends with what is in /proc/self/status on standard error.
    """
    with running_service() as service:
        service.seen(stage)
        told = (_ROOT, service.endpoint, str(stage.buckets), *stage.regions)
        ended = subprocess.run(
            [sys.executable, "-I", "-c", program, *told],
            env=_inherited(service),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"a sweep failed: {ended.stderr}")
        _check(service.seen(), stage)
    (peak,) = (line.split()[1] for line in ended.stderr.splitlines() if line.startswith("VmHWM:"))
    return int(peak)


# What is shown.


def show(speed: Speed, peaks: Sequence[Peak], buckets: int, console: Console) -> None:
    """Print a table of each, and how far the service was from its limit."""
    console.print(
        f"\nA sweep of {buckets} table buckets on {', '.join(versions())}.\n", soft_wrap=True
    )
    console.print(speeds(speed))
    console.print(
        f"The service's own limit, asked on {CONNECTIONS} connections without signing or deciding:"
        f" {speed.most_answers_delayed:.0f} answers/s, each after {1000 * DELAY_SECONDS:.0f} ms;"
        f" {speed.most_answers:.0f} answers/s without that pause.\n",
        soft_wrap=True,
    )
    if peaks:
        console.print(memory(peaks))
    else:
        console.print(f"Memory is not measured: there is no {STATUS}.")


def speeds(speed: Speed) -> Table:
    """Medians of the rounds, and of their ratios to the SDK."""
    headings = ("buckets/s", "least", "most", "x SDK", "CPU ms/bucket", "x SDK")
    table = Table(f"median of {len(speed.rounds)} rounds", box=box.SIMPLE, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for client in CLIENTS:
        rates, cpu = (speed.values(client, measure) for measure in MEASURES)
        ratios = [f"{speed.ratio(client, measure):.2f}" for measure in MEASURES]
        cells = [f"{figure(rates):.1f}" for figure in (median, min, max)]
        table.add_row(client, *cells, ratios[0], f"{median(cpu):.2f}", ratios[1])
    return table


def memory(peaks: Sequence[Peak]) -> Table:
    """Each program's peak, and how much more that is than with few buckets."""
    table = Table("peak memory", box=box.SIMPLE, pad_edge=False)
    for heading in ("regions", "buckets", "MiB", "more than few", "bytes/bucket more"):
        table.add_column(heading, justify="right", no_wrap=True)
    for peak in peaks:
        few = next(p for p in peaks if p.program == peak.program)
        more, buckets = peak.kib - few.kib, peak.buckets - few.buckets
        told = [f"{more / 1024:+.1f}", f"{1024 * more / buckets:.0f}"] if buckets else ["", ""]
        counts = (f"{peak.regions:,}", f"{peak.buckets:,}", f"{peak.kib / 1024:.1f}")
        table.add_row(peak.program, *counts, *told)
    return table


def document(speed: Speed, peaks: Sequence[Peak], buckets: int) -> dict[str, Any]:
    """All that was measured, for other programs."""
    return {
        "versions": versions(),
        "buckets": buckets,
        "delay_seconds": DELAY_SECONDS,
        "answers_per_second": {
            "delayed": speed.most_answers_delayed,
            "at_once": speed.most_answers,
        },
        "ratios_to_sdk": {
            client: {measure: speed.ratio(client, measure) for measure in MEASURES}
            for client in CLIENTS
        },
        "rounds": [{name: asdict(turn) for name, turn in turns.items()} for turns in speed.rounds],
        "peaks": [asdict(peak) for peak in peaks],
    }


if __name__ == "__main__":
    main()
