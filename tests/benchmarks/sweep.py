"""`make bench`: how fast a sweep reads table buckets, and what memory it needs for ten thousand.

All buckets are encrypted, so every client does the same: it lists the buckets of one region and
reads the encryption of each. `official SDK` does so with the vendor's client, one bucket after the
other, as a script of few lines would, or with 8 and 16 threads; `ours` is the sweep of this package
with 1, 8 and 16 workers. Each thread has a connection. What answers is a process of its own
(sweep_service.py), 20 ms after each request, and so is each client, which keeps its connections. It
counts what was asked of it; a client that asked for more or less than the others ends the
benchmark.

In a round each client runs once, in changing order; a ratio is the median of the rounds' own
ratios, to the SDK with as many threads. CPU is the client's alone, user and system.

Two more cases are ours alone, in eight regions of ten buckets, the most that an account may have:
none of them is encrypted, and a sweep encrypts each and reads it back; and one region answers 503
with Retry-After, and refuses whatever comes before that: how much later the others are done.
`--beside DIR` also measures another checkout, in the same rounds, with DIR/.venv and DIR's own
tests/benchmarks/sweep_clients.py.

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import certifi
from rich import box
from rich.table import Table

from tests.benchmarks.case import REGION
from tests.benchmarks.clients import Lasting, environment, lasting
from tests.benchmarks.put_encryption import versions
from tests.benchmarks.shown import CONSOLE, figures_table, write
from tests.benchmarks.sweep_service import Seen, Service, Stage, bare_rate, running_service

DELAY_SECONDS = 0.02
WARM_UP_BUCKETS = 24
FEW, IN_EACH_REGION = 10, 10
CONNECTIONS = 16

REGIONS = 8
THROTTLED = "cn-region0"
RETRY_AFTER_SECONDS = 30.0

OURS, BESIDE = "guard, 8 workers", "beside, 8 workers"
# What each is compared with.
PEERS = {
    "official SDK": "official SDK",
    "official SDK, 8 threads": "official SDK, 8 threads",
    "official SDK, 16 threads": "official SDK, 16 threads",
    "guard, 1 worker": "official SDK",
    OURS: "official SDK, 8 threads",
    "guard, 16 workers": "official SDK, 16 threads",
    BESIDE: "official SDK, 8 threads",
}
CLIENTS = {
    "official SDK": "open_official_sdk(sys.argv[2], 1)",
    "official SDK, 8 threads": "open_official_sdk(sys.argv[2], 8)",
    "official SDK, 16 threads": "open_official_sdk(sys.argv[2], 16)",
    "guard, 1 worker": "open_ours(sys.argv[2], 1)",
    OURS: "open_ours(sys.argv[2], 8)",
    "guard, 16 workers": "open_ours(sys.argv[2], 16)",
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
    "sys.exit(open_ours(sys.argv[2])(sys.argv[4:]).encrypted != int(sys.argv[3]))",
    "sweep --output json": _COMMAND.format("json"),
    "sweep (a table)": _COMMAND.format("table"),
}


@dataclass(frozen=True)
class Run:
    """One sweep of one client; `done_after` so many seconds nothing of a region was left."""

    buckets_per_second: float
    cpu_ms_per_bucket: float
    seconds: float
    done_after: Mapping[str, float]
    refused: int


Round = Mapping[str, Run]


@dataclass(frozen=True)
class Speed:
    """What the clients did in the counted rounds, and what the service could have answered."""

    rounds: Sequence[Round]
    most_answers: float
    most_answers_delayed: float

    def values(self, client: str, measure: Measure) -> list[float]:
        """Of every round."""
        return [getattr(runs[client], measure) for runs in self.rounds]

    def ratio(self, client: str, measure: Measure) -> float:
        """The median of the rounds' own ratios to its peer."""
        pairs = zip(self.values(client, measure), self.values(PEERS[client], measure), strict=True)
        return median(one / other for one, other in pairs)


@dataclass(frozen=True)
class Regions:
    """What happened to eight regions without encryption, and where one of them was throttled."""

    rounds: Sequence[Round]
    throttled: Round

    def seconds(self, client: str) -> list[float]:
        """Of whole sweeps that encrypt and read back."""
        return [runs[client].seconds for runs in self.rounds]

    def later(self, client: str) -> float:
        """Seconds by which the other regions are done later than without the throttled one."""
        usual = median(_others(runs[client]) for runs in self.rounds)
        return _others(self.throttled[client]) - usual


def _others(run: Run) -> float:
    return max(after for region, after in run.done_after.items() if region != THROTTLED)


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
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout to measure")
    parser.add_argument("--no-memory", action="store_true", help="leave that out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        service = stack.enter_context(running_service())
        clients = {
            name: stack.enter_context(_client(program, service))
            for name, program in CLIENTS.items()
        }
        if options.beside:
            root = options.beside.resolve()
            clients[BESIDE] = stack.enter_context(_client(CLIENTS[OURS], service, root))
        speed = measure_speed(service, clients, options.rounds, options.buckets)
        regions = measure_regions(service, clients, options.rounds)
    peaks = [] if options.no_memory or not STATUS.exists() else measure_peaks(options.many)
    show(speed, regions, peaks, options.buckets)
    if options.json:
        write(options.json, document(speed, regions, peaks, options.buckets))


# Speed.


Clients = Mapping[str, Lasting]


def sweep_once(client: Lasting, service: Service, stage: Stage) -> Run:
    """Sweep once; raises RuntimeError if that is not what everybody does."""
    service.seen(stage)
    client.tell(" ".join(stage.regions))
    told = json.loads(client.told() or '{"encrypted": "none"}')
    seen = service.seen()
    if told["encrypted"] != stage.buckets:
        raise RuntimeError(f"{told['encrypted']} of {stage.buckets} buckets are encrypted")
    _check(seen, stage)
    return Run(
        buckets_per_second=stage.buckets / told["wall"],
        cpu_ms_per_bucket=1000 * told["cpu"] / stage.buckets,
        seconds=told["wall"],
        done_after=told["done_after"],
        refused=seen.refused,
    )


def measure_speed(service: Service, clients: Clients, rounds: int, buckets: int) -> Speed:
    """Every client in every round; raises RuntimeError if they differ in what they do."""
    stage = Stage({REGION: buckets}, DELAY_SECONDS)
    for client in clients.values():
        sweep_once(client, service, Stage({REGION: WARM_UP_BUCKETS}, DELAY_SECONDS))
    counted = [_round(clients, number, service, stage) for number in range(rounds)]
    service.seen(stage)
    delayed = bare_rate(service, requests=1600, connections=CONNECTIONS)
    service.seen(Stage({REGION: buckets}, 0))
    at_once = bare_rate(service, requests=16_000, connections=CONNECTIONS)
    return Speed(counted, at_once, delayed)


def measure_regions(service: Service, clients: Clients, rounds: int) -> Regions:
    """Our client, and the one beside it, with eight regions; one of them is throttled at last."""
    names = [THROTTLED, *(f"cn-region{number}" for number in range(1, REGIONS))]
    stage = Stage(dict.fromkeys(names, IN_EACH_REGION), DELAY_SECONDS, encrypted=False)
    ours = {name: client for name, client in clients.items() if name in (OURS, BESIDE)}
    for client in ours.values():
        sweep_once(client, service, stage)
    counted = [_round(ours, number, service, stage) for number in range(rounds)]
    throttled = replace(stage, throttled=THROTTLED, retry_after=RETRY_AFTER_SECONDS)
    return Regions(counted, _round(ours, 0, service, throttled))


def _client(
    program: str, service: Service, root: Path | None = None
) -> AbstractContextManager[Lasting]:
    python = str(root / ".venv" / "bin" / "python") if root else sys.executable
    command = [python, "-I", "-c", _WARM.format(program), str(root or _ROOT), service.endpoint]
    return lasting(command, _inherited(service))


def _inherited(service: Service) -> dict[str, str]:
    """What an operator's shell may hold: no function's own variables."""
    given = environment(Path(certifi.where()))
    told = {name: value for name, value in given.items() if not name.startswith("FC_")}
    return told | {"GUARD_OSS_TABLES_ENDPOINT": service.endpoint}


def _round(clients: Clients, number: int, service: Service, stage: Stage) -> dict[str, Run]:
    # Each time another one begins, and every other time backwards.
    first = number % len(clients)
    order = [*list(clients)[first:], *list(clients)[:first]][:: -1 if number % 2 else 1]
    return {name: sweep_once(clients[name], service, stage) for name in order}


def _check(seen: Seen, stage: Stage) -> None:
    found = (seen.lists, len(seen.arns), seen.others)
    puts = 0 if stage.encrypted else stage.buckets
    # To encrypt, a bucket is read before, by the plan and by its event, and afterwards.
    reads = stage.buckets if stage.encrypted else 3 * stage.buckets
    if (*found, seen.reads, seen.puts) != (stage.pages, stage.buckets, 0, reads, puts):
        raise RuntimeError(
            f"{seen.lists} pages, {seen.reads} reads and {seen.puts} PUTs of {len(seen.arns)}"
            f" buckets and {seen.others} other requests, but there are {stage.pages} pages and"
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


def show(speed: Speed, regions: Regions, peaks: Sequence[Peak], buckets: int) -> None:
    """Print a table of each, and how far the service was from its limit."""
    CONSOLE.print(
        f"\nA sweep of {buckets} table buckets on {', '.join(versions())}.\n", soft_wrap=True
    )
    CONSOLE.print(speeds(speed))
    CONSOLE.print(
        f"The service's own limit, asked on {CONNECTIONS} connections without signing or deciding:"
        f" {speed.most_answers_delayed:.0f} answers/s, each after {1000 * DELAY_SECONDS:.0f} ms;"
        f" {speed.most_answers:.0f} answers/s without that pause.\n",
        soft_wrap=True,
    )
    CONSOLE.print(in_regions(regions))
    if peaks:
        CONSOLE.print(memory(peaks))
    else:
        CONSOLE.print(f"Memory is not measured: there is no {STATUS}, or nobody asked.")


def speeds(speed: Speed) -> Table:
    """Medians of the rounds, and of their ratios to the SDK with as many threads."""
    headings = ("buckets/s", "least", "most", "x SDK", "CPU ms/bucket", "x SDK")
    table = figures_table(f"median of {len(speed.rounds)} rounds", figures=headings)
    for client in speed.rounds[0]:
        rates, cpu = (speed.values(client, measure) for measure in MEASURES)
        ratios = [f"{speed.ratio(client, measure):.2f}" for measure in MEASURES]
        cells = [f"{figure(rates):.1f}" for figure in (median, min, max)]
        table.add_row(client, *cells, ratios[0], f"{median(cpu):.2f}", ratios[1])
    return table


def in_regions(regions: Regions) -> Table:
    """Whole sweeps that encrypt, and what one throttled region does to the others and itself."""
    title = f"{REGIONS} regions, {IN_EACH_REGION} buckets each to encrypt"
    table = Table(title, box=box.SIMPLE, pad_edge=False)
    asked = f"one asks to wait {RETRY_AFTER_SECONDS:.0f} s: others later by"
    for heading in ("s", "least", "most", asked, "it is done after", "refused"):
        table.add_column(heading, justify="right")
    for client, throttled in regions.throttled.items():
        seconds = regions.seconds(client)
        table.add_row(
            client,
            *(f"{figure(seconds):.2f}" for figure in (median, min, max)),
            f"{regions.later(client):+.2f} s",
            f"{throttled.done_after[THROTTLED]:.2f} s",
            f"{throttled.refused}",
        )
    return table


def memory(peaks: Sequence[Peak]) -> Table:
    """Each program's peak, and how much more that is than with few buckets."""
    headings = ("regions", "buckets", "MiB", "more than few", "bytes/bucket more")
    table = figures_table("peak memory", figures=headings)
    for peak in peaks:
        few = next(p for p in peaks if p.program == peak.program)
        more, buckets = peak.kib - few.kib, peak.buckets - few.buckets
        told = [f"{more / 1024:+.1f}", f"{1024 * more / buckets:.0f}"] if buckets else ["", ""]
        counts = (f"{peak.regions:,}", f"{peak.buckets:,}", f"{peak.kib / 1024:.1f}")
        table.add_row(peak.program, *counts, *told)
    return table


def document(speed: Speed, regions: Regions, peaks: Sequence[Peak], buckets: int) -> dict[str, Any]:
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
            for client in speed.rounds[0]
        },
        "rounds": _rounds(speed.rounds),
        "regions": _rounds([*regions.rounds, regions.throttled]),
        "others_later_seconds": {name: regions.later(name) for name in regions.throttled},
        "peaks": [asdict(peak) for peak in peaks],
    }


def _rounds(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    return [{name: asdict(run) for name, run in runs.items()} for runs in rounds]


if __name__ == "__main__":
    main()
