"""`make bench`: what one PutTableBucketEncryption costs us, the vendor's SDK, and at the least.

Three clients send the same request: `ours`, this package as the function uses it; `official_sdk`,
the vendor's SDK with its defaults; `limit`, the standard library by hand, which signs and sends
and does nothing else. The emulated OSS Tables answers and checks every signature, in a process of
its own, as is every client.

warm    A process that keeps its connection sends batches; a figure is for one request.
cold    A fresh interpreter with valid bytecode imports the client, opens it with the public
        certificate authorities, sends one request over TLS and ends; a figure is for all of that.

CPU is the client's alone, user and system. Wall is the time by the clock, in which the emulator
has its share: of a warm request most of it. In a round each client has its turn, in changing
order; a ratio is the median of the rounds' own ratios, so that a machine that is slow for a while
slows both sides of it. The one to look at is the last, in CPU, warm over TLS: how much is left of
what the SDK spends beyond the minimum.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from tests.benchmarks.clients import CLIENTS, environment
from tests.benchmarks.figures import OVERHEAD, RATIOS, Kind, Series
from tests.benchmarks.rounds import BATCH, measure
from tests.benchmarks.service import running_service
from tests.benchmarks.shown import CONSOLE, figures_table, write

GOAL = 0.6
KINDS: tuple[Kind, Kind] = ("cpu", "wall")
PACKAGES = ("httpx", "httpcore", "h11", "pydantic", "alibabacloud-oss-v2", "requests", "urllib3")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, if asked, write the figures of every round."""
    parser = argparse.ArgumentParser(description="Time one PutTableBucketEncryption.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        trust = Path(folder) / "trust.pem"
        with running_service(trust) as service:
            measured = measure(service, environment(trust))
    show(measured)
    if options.json:
        write(options.json, document(measured))


def show(measured: Sequence[Series]) -> None:
    """Print two tables and the one figure that matters."""
    CONSOLE.print(f"One PutTableBucketEncryption on {', '.join(versions())}.\n", soft_wrap=True)
    CONSOLE.print(times(measured))
    CONSOLE.print(ratios(measured))
    left = measured[0].ratio(OVERHEAD, "cpu")
    CONSOLE.print(
        f"Of the CPU that the SDK spends beyond the minimum, {left:.2f} is left"
        f" ({measured[0].title}; the goal is {GOAL} at most).",
        soft_wrap=True,
    )


def versions() -> list[str]:
    """Of Python and of what the clients stand on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [python, *(f"{package} {version(package)}" for package in PACKAGES)]


def times(measured: Sequence[Series]) -> Table:
    """Median and least of the rounds, for each way and client."""
    headings = ("CPU median", "CPU least", "wall median", "wall least", "rounds")
    table = figures_table("ms for one request", "", figures=headings)
    for series in measured:
        for client in CLIENTS:
            found = [series.milliseconds(client, kind) for kind in KINDS]
            cells = [f"{figure(values):.3f}" for values in found for figure in (median, min)]
            table.add_row(series.title, client, *cells, str(len(series.rounds)))
        table.add_section()
    return table


def ratios(measured: Sequence[Series]) -> Table:
    """The medians of the rounds' ratios."""
    headings = [
        f"{series.title}, {name}".replace(", ", "\n")
        for series in measured
        for name in ("CPU", "wall")
    ]
    table = figures_table("ratio", figures=headings)
    for name in RATIOS:
        table.add_row(name, *(f"{s.ratio(name, kind):.2f}" for s in measured for kind in KINDS))
    return table


def document(measured: Sequence[Series]) -> dict[str, Any]:
    """All that was measured, for other programs."""
    return {"versions": versions(), "batch": BATCH} | {
        series.title: {
            "ratios": {n: {kind: series.ratio(n, kind) for kind in KINDS} for n in RATIOS},
            "milliseconds": {
                c: {kind: series.milliseconds(c, kind) for kind in KINDS} for c in CLIENTS
            },
        }
        for series in measured
    }


if __name__ == "__main__":
    main()
