"""`make bench`: from the creation of a bucket to its encryption, this build and one before it.

Each build runs its own functions and package against an emulated cloud of its own, whose timer
fires each minute. The instants are those of the emulated OSS Tables: when it got the bucket, and
when it got the PUT that encrypted it. The events of a bucket come on time, ten minutes late, or
never; the instants of creation are random, with a fixed seed, and the same for both builds.

- In real time: both builds at once, processes of their own as in `make demo`, cold starts
  included. Here events come at once or never.
- In simulated time: hours, in which only pauses are skipped; see gap_simulated.py. From this run
  come the requests and CPU seconds a day: what the functions' processes asked for and spent,
  without their start, extrapolated to a day. There are about ten buckets at a time, and as many
  new ones as the table says.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from layers.encryption_guard.tools.build import REPOSITORY
from tests.benchmarks import gap_real, gap_simulated
from tests.benchmarks.gap_figures import (
    LATE,
    NEVER,
    ON_TIME,
    Comparison,
    Creation,
    Measured,
    creations,
)
from tests.benchmarks.shown import figures_table, write

# The last commit before the buckets were watched between two ticks of the timer.
BASELINE = "8ba1728cd31ca44e71e77d6339d590461836d763"
DEPLOYED = ("functions", "layers", "template.yaml")
REAL, SIMULATED = "real", "simulated"
WRITTEN = Path("build/gap.json")
Measure = Callable[[Path, Sequence[Creation]], Measured]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        builds = {"ours": REPOSITORY}
        if exported := export(options.baseline, Path(folder)):
            builds["baseline"] = exported
        measured = measure_all(builds, _plans(options))
    comparison = Comparison(measured["ours"], measured.get("baseline", {}))
    document = {
        "baseline": options.baseline if "baseline" in builds else None,
        "seed": options.seed,
        **comparison.document(),
    }
    console = Console(highlight=False, width=130)
    for line in printed(document, both="baseline" in builds):
        console.print(line)
    write(options.json, document)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how long a bucket stays unencrypted.")
    parser.add_argument(
        "--baseline",
        default=BASELINE,
        metavar="REF",
        help="commit to compare with; '' for none (default: the one before the watch)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=int, default=1, help="of real time; 0 leaves it out")
    parser.add_argument("--hours", type=float, default=8.0, help="of simulated time; 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", default=WRITTEN, help=f"{WRITTEN}")
    return parser


def _plans(options: argparse.Namespace) -> dict[str, tuple[Measure, list[Creation]]]:
    """The runs: the buckets of each, and what they are created in."""
    plans: dict[str, tuple[Measure, list[Creation]]] = {}
    if options.minutes:
        counts = {NEVER: 60 * options.minutes, ON_TIME: 20 * options.minutes}
        buckets = creations(counts, first=1, last=60 * options.minutes, seed=options.seed)
        plans[REAL] = gap_real.measure, buckets
    if options.hours:
        counts = dict.fromkeys((NEVER, LATE, ON_TIME), max(round(13 * options.hours), 1))
        buckets = creations(counts, first=60, last=3600 * options.hours, seed=options.seed)
        plans[SIMULATED] = gap_simulated.measure, buckets
    return plans


def measure_all(
    builds: Mapping[str, Path], plans: Mapping[str, tuple[Measure, list[Creation]]]
) -> dict[str, dict[str, Measured]]:
    """Each run with all builds at once, each in a process of its own."""
    measured: dict[str, dict[str, Measured]] = {name: {} for name in builds}
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(builds), mp_context=spawning) as pool:
        for run, (measure, buckets) in plans.items():
            futures = {
                name: pool.submit(measure, sources, buckets) for name, sources in builds.items()
            }
            for name, future in futures.items():
                measured[name][run] = future.result()
    return measured


def export(ref: str, folder: Path) -> Path | None:
    """Put what is deployed of a commit into the folder; None, with a word why, if it cannot be."""
    if not ref:
        return None
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), "archive", "--format=tar", ref, "--", *DEPLOYED],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        print(f"There is no baseline {ref}: {''.join(reason)}", file=sys.stderr)
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder)  # noqa: S202  our own repository's
    return folder


def printed(document: Mapping[str, Any], *, both: bool) -> Iterator[Table | str]:
    """The tables, and the two figures that count."""
    yield _gaps(document["runs"], both=both)
    yield _days(document["runs"])
    if both:
        yield (
            f"Events that come late or never: {document['median_ratio']:.3f} x the median of the"
            f" baseline, {document['p95_ratio']:.3f} x its 95th percentile."
        )


def _gaps(runs: Mapping[str, Any], *, both: bool) -> Table:
    names = ("baseline", "ours") if both else ("ours",)
    columns = ["buckets", *(f"{name}: {what}" for name in names for what in ("median", "p95"))]
    columns += ["x median", "x p95"] if both else []
    table = figures_table("time", "event", figures=columns, title="the gap, s")
    for run, figures in runs.items():
        for event, compared in figures["events"].items():
            row = [f"{compared['ours']['buckets']}"]
            for name in names:
                row += [f"{compared[name]['median']:.3f}", f"{compared[name]['p95']:.3f}"]
            if both:
                row += [f"{compared['median_ratio']:.3f}", f"{compared['p95_ratio']:.3f}"]
            table.add_row(run, event, *row)
    return table


def _days(runs: Mapping[str, Any]) -> Table:
    title = "a day, extrapolated from the simulated run"
    table = figures_table("build", figures=("requests", "lists among them", "CPU s"), title=title)
    for build, day in runs.get(SIMULATED, {"a_day": {}})["a_day"].items():
        table.add_row(
            build, f"{day['requests']:.0f}", f"{day['lists']:.0f}", f"{day['cpu_seconds']:.0f}"
        )
    return table


if __name__ == "__main__":
    main()
