"""`make bench`: what one event costs a fresh process, ours, the vendor's SDK's, and at the least.

The layer is built and unpacked as it is deployed; the vendor's SDK is installed likewise, from the
lock with its hashes. Everything has bytecode that is checked against the source by its hash, as
the read-only layer has, and runs under the runtime's own Python, with the environment that Function
Compute documents. Four functions take the same event of a bucket's creation and answer it with a
GET and a PUT of the bucket's encryption, over TLS, to the emulated OSS Tables in another process,
which checks every signature:

ours          the function as it is built, with its layer.
official_sdk  a function of few lines on the vendor's SDK.
limit         the two requests by hand on the standard library, without any check.
floor         the limit, after importing what ours stands on: httpx with httpcore, Powertools'
              Logger, and pydantic if ours has loaded it when it has handled such an event.

cold  A process starts, imports its function, initializes it and hands it one event: a figure is
      for all of that, until PUT is answered. "To the end" is with the end of the process, which
      nobody waits for in the cloud. Peak memory is what the process itself reads last (VmHWM,
      Linux only): what the kernel tells of one that ended begins with its parent's.
warm  A process that lasts has handled one event, and handles batches of others. The SDK's client
      and the limit's connection last as well; a figure is for one event.

All trust certifi's authorities and the emulator's own. Ours, the limit and the floor have them one
by one in the layer, where OpenSSL looks up the one it needs; requests, under the SDK, reads all.
Each event has a bucket of its own, and afterwards each bucket has to have been encrypted, by one
GET and one PUT. In a round each variant has its turn, in changing order, and the first round does
not count; a ratio is the median of the rounds' own ratios. How the time of a cold event is split
is told in stages.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from tests.benchmarks.artefacts import RUNTIMES, prepare
from tests.benchmarks.bars import draw
from tests.benchmarks.clients import CLIENTS
from tests.benchmarks.cold_rounds import BATCH, Measured, Plan, measure
from tests.benchmarks.figures import OVERHEAD, Kind, Series
from tests.benchmarks.shown import CONSOLE, figures_table, write
from tests.benchmarks.stages import STAGES, segments

FEWEST_ROUNDS = 15
KINDS: tuple[Kind, Kind] = ("wall", "cpu")
TITLES = {"ours": "guard", "official_sdk": "SDK", "limit": "minimum", "floor": "base"}
TITLE = "One cold event: where its milliseconds go"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures of every round, and a picture if asked."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        artefacts = prepare(Path(folder))
        measured = measure(artefacts, Plan(options.rounds, options.events // BATCH))
        versions = list(artefacts.versions())
    report = Report(measured, artefacts.runtime, versions, artefacts.zipped)
    show(report)
    write(options.json, document(report))
    if options.plot:
        options.plot.write_text(draw(TITLE, report.split()), "utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time one event in a fresh process.")
    written = Path("build/cold_start.json")
    parser.add_argument("--rounds", type=int, default=20, help="cold; default: 20, at least 15")
    parser.add_argument("--events", type=int, default=1600, help="warm; default: 1600, by 20")
    parser.add_argument("--json", type=Path, metavar="FILE", default=written, help=f"{written}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG of a cold event")
    options = parser.parse_args(arguments)
    if options.rounds < FEWEST_ROUNDS or options.events < BATCH:
        parser.error(f"at least {FEWEST_ROUNDS} rounds and {BATCH} events")
    return options


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    measured: Measured
    runtime: str
    versions: Sequence[str]
    zipped: int

    def peak(self, variant: str) -> float:
        """The median of the processes' most memory, in MiB."""
        return median(turns[variant].peak for turns in self.measured.cold) / 1024

    def split(self) -> dict[str, dict[str, float]]:
        """The milliseconds of each segment of a cold event, by the variants' titles."""
        return {
            TITLES[name]: segments(
                [turns[name].stages for turns in self.measured.cold], self.measured.profiles[name]
            )
            for name in CLIENTS
        }

    def goals(self) -> Iterator[Goal]:
        """What the guard set out for."""
        cold, warm = self.measured.answered, self.measured.warm
        for of, name, most in (("official_sdk", "SDK", 0.7), ("floor", "base", 1.3)):
            for kind in KINDS:
                what = f"cold, {kind_name(kind)}: guard / {name}"
                yield Goal(what, cold.between("ours", of, kind), most)
        yield Goal(f"warm, CPU: {OVERHEAD}", warm.ratio(OVERHEAD, "cpu"), 0.7)
        yield Goal("peak memory of the guard, MiB", self.peak("ours"), 45)
        yield Goal("layer, zipped, MiB", self.zipped / 2**20, 8)


@dataclass(frozen=True)
class Goal:
    """A figure, and what it is to be at most."""

    told: str
    figure: float
    most: float


def kind_name(kind: Kind) -> str:
    """As it is written."""
    return "CPU" if kind == "cpu" else "wall"


def show(report: Report) -> None:
    """Print three tables and what became of each goal."""
    built = f"One event, the layer built for {report.runtime}"
    CONSOLE.print(f"{built}, on {', '.join(report.versions)}.", soft_wrap=True)
    if report.runtime not in RUNTIMES:
        CONSOLE.print(f"No Python of Function Compute's is here: {' or '.join(RUNTIMES)}.")
    CONSOLE.print(f"The base imports {', '.join(report.measured.floor)}.", soft_wrap=True)
    cold, warm = len(report.measured.cold), len(report.measured.warm.rounds)
    CONSOLE.print(f"Cold: {cold} rounds; warm: {warm} rounds of {BATCH} events.\n")
    CONSOLE.print(times(report))
    CONSOLE.print(ratios(report.measured))
    CONSOLE.print(split(report.split()))
    for goal in report.goals():
        reached = "" if goal.figure <= goal.most else ": missed"
        CONSOLE.print(f"{goal.told} {goal.figure:.2f} (goal {goal.most} at most{reached})")


def times(report: Report) -> Table:
    """Median and least of the rounds, for each variant, and its peak memory."""
    headings = ("wall median", "least", "CPU median", "least", "CPU / wall", "peak MiB")
    table = figures_table("ms for one event", "", figures=headings)
    for series in report.measured.series:
        for variant in series.rounds[0]:
            found = [series.milliseconds(variant, kind) for kind in KINDS]
            cells = [f"{figure(values):.2f}" for values in found for figure in (median, min)]
            busy = median(spent[variant].cpu / spent[variant].wall for spent in series.rounds)
            peak = f"{report.peak(variant):.1f}" if series.title == "cold" else ""
            table.add_row(series.title, TITLES[variant], *cells, f"{busy:.2f}", peak)
        table.add_section()
    return table


def ratios(measured: Measured) -> Table:
    """The medians of the rounds' ratios."""
    headings = [f"{s.title}\n{kind_name(kind)}" for s in measured.series for kind in KINDS]
    table = figures_table("ratio", figures=headings)
    for name, ratio in RATIOS.items():
        table.add_row(name, *(ratio(s, kind) for s in measured.series for kind in KINDS))
    return table


def between(variant: str, other: str) -> Callable[[Series, Kind], str]:
    """The ratio of two variants, where both were measured."""
    return lambda series, kind: (
        f"{series.between(variant, other, kind):.2f}" if other in series.rounds[0] else ""
    )


RATIOS: Mapping[str, Callable[[Series, Kind], str]] = {
    "guard / SDK": between("ours", "official_sdk"),
    "guard / base": between("ours", "floor"),
    "guard / minimum": between("ours", "limit"),
    "SDK / minimum": between("official_sdk", "limit"),
    OVERHEAD: lambda series, kind: f"{series.ratio(OVERHEAD, kind):.2f}",
}


def split(bars: Mapping[str, Mapping[str, float]]) -> Table:
    """Where the time of a cold event goes."""
    table = Table("ms of a cold event", box=box.SIMPLE, pad_edge=False, show_footer=True)
    table.columns[0].footer = "together"
    for name, bar in bars.items():
        table.add_column(name, f"{sum(bar.values()):.1f}", justify="right")
    for segment in next(iter(bars.values())):
        table.add_row(segment, *(f"{bar[segment]:.1f}" for bar in bars.values()))
    return table


def document(report: Report) -> dict[str, Any]:
    """All that was measured, for other programs."""
    measured = report.measured
    return {
        "runtime": report.runtime,
        "versions": list(report.versions),
        "batch": BATCH,
        "floor": list(measured.floor),
        "goals": {
            goal.told: {"figure": goal.figure, "at_most": goal.most} for goal in report.goals()
        },
        "milliseconds": {
            series.title: {
                name: {kind: series.milliseconds(name, kind) for kind in KINDS}
                for name in series.rounds[0]
            }
            for series in measured.series
        },
        "stages": {
            stage: {
                name: [1000 * turns[name].stages[stage].wall for turns in measured.cold]
                for name in TITLES
            }
            for stage in STAGES
        },
        "peak_kib": {name: [turns[name].peak for turns in measured.cold] for name in TITLES},
        "layer_bytes": report.zipped,
        "split": report.split(),
    }


if __name__ == "__main__":
    main()
