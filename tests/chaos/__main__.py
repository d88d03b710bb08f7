"""`make chaos`: creations by the thousand under every fault at once, and a judge at the end.

First each class of faults alone, then all together. The seed that is printed makes the same plan
again; what the machine's own timing decides (which of two deliveries comes first, where a process
is when it is killed by the clock) is not in it. A violation names its creation and the command that
lets the same befall that one again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.checker import Verdict, Violation, check
from tests.chaos.plan import TROUBLES, Plan, plan
from tests.chaos.storm import History, raise_storm

ALL = "all at once"
MAX_LISTED = 20


@dataclass(frozen=True)
class Row:
    """One storm in figures; `requests` are the most that one try of one event made."""

    storm: str
    seed: int
    events: int
    faults: int
    tries: int
    retries: int
    cold: int
    requests: int
    encrypted: int
    as_it_was: int
    skipped: int
    dead_letters: int
    kept_by_platform: int
    lost: int
    false_success: int
    other: int
    seconds: float


# Of a row, what the table does not have, and what it calls otherwise.
NOT_SHOWN = ("seed", "tries", "seconds")
HEADERS = {"kept_by_platform": "on failure", "false_success": "false"}


def row(storm: str, seed: int, plan: Plan, history: History, verdict: Verdict) -> Row:
    """The figures of a storm."""
    ends = verdict.ends
    return Row(
        storm=storm,
        seed=seed,
        events=len(plan.creations),
        faults=history.injected.total(),
        tries=len(history.tries),
        retries=len(history.tries) - len(plan.deliveries),
        cold=sum(each.cold for each in history.tries),
        requests=verdict.most_requests,
        encrypted=ends["encrypted"],
        as_it_was=ends["already_encrypted"] + ends["kept_stronger"],
        skipped=ends["skipped"],
        dead_letters=ends["dead letter"],
        kept_by_platform=ends["kept by the platform"],
        lost=verdict.count("lost"),
        false_success=verdict.count("false success"),
        other=verdict.count("altered", "untold", "touched", "unbounded"),
        seconds=round(history.seconds, 1),
    )


def main() -> int:
    """Read the arguments, raise the storms, tell what became of them."""
    chosen = arguments().parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    console = Console(stderr=True)
    console.print(f"seed {seed}", highlight=False)
    rows: list[Row] = []
    violations: list[tuple[str, Violation]] = []
    injected: Counter[str] = Counter()
    for troubles, events in storms(chosen):
        storm = plan(seed, events, troubles, outage_seconds=outage(troubles, chosen.outage))
        storm = storm if chosen.only is None else storm.only(chosen.only)
        history = watched(console, name_of(troubles), storm, chosen.instances)
        verdict = check(storm, history)
        rows.append(row(name_of(troubles), seed, storm, history, verdict))
        violations += [(name_of(troubles), each) for each in verdict.violations]
        injected = history.injected
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows), faults(injected))
    if chosen.json:
        write(chosen.json, rows, injected)
    for name, violation in violations[:MAX_LISTED]:
        console.print(told(violation, again(violation, name, seed, chosen)), soft_wrap=True)
    return 1 if violations else 0


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the plan's; by lot unless given")
    parser.add_argument("--events", type=int, default=10_000, help="creations under all faults")
    parser.add_argument("--each", type=int, default=200, help="creations under each class alone")
    parser.add_argument("--trouble", choices=[*TROUBLES, ALL], help="only this storm")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only this creation of it")
    parser.add_argument("--outage", type=float, default=120, help="seconds that the queue is down")
    parser.add_argument("--instances", type=int, default=16, help="of the function, at most")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser


def storms(chosen: argparse.Namespace) -> list[tuple[tuple[str, ...], int]]:
    """The classes of faults of each storm, and its number of creations."""
    alone = [((label,), chosen.each) for label in TROUBLES]
    together = [(tuple(TROUBLES), chosen.events)]
    named = alone + together
    return [each for each in named if chosen.trouble in (None, name_of(each[0])) and each[1]]


def name_of(troubles: Sequence[str]) -> str:
    """What a storm is called."""
    return troubles[0] if len(troubles) == 1 else ALL


def outage(troubles: Sequence[str], seconds: float) -> float:
    """How long the queue is down: for minutes only where it takes minutes anyway."""
    return seconds if len(troubles) > 1 else min(seconds, 10)


def watched(console: Console, name: str, plan: Plan, instances: int) -> History:
    """Raise the storm and show how far it is."""
    columns = (*Progress.get_default_columns()[:3], TextColumn("of deliveries"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(f"{name:26}", total=len(plan.deliveries))
        return raise_storm(
            plan, instances=instances, step=lambda done, _of: progress.update(task, completed=done)
        )


def table(rows: Sequence[Row]) -> Table:
    """A line for each storm."""
    columns = [each.name for each in fields(Row) if each.name not in NOT_SHOWN]
    shown = Table("storm", title="How the events ended")
    for name in columns[1:]:
        shown.add_column(HEADERS.get(name, name.replace("_", " ")), justify="right")
    for each in rows:
        figures = asdict(each)
        wrong = each.lost or each.false_success or each.other
        cells = [f"{v:,}" if isinstance(v := figures[name], int) else v for name in columns]
        shown.add_row(*cells, style="red" if wrong else "")
    return shown


def faults(injected: Mapping[str, int]) -> Table:
    """How often each class of faults struck in the last storm."""
    shown = Table("class", title="Faults that struck in the last of them")
    shown.add_column("times", justify="right")
    for label in TROUBLES:
        if injected.get(label):
            shown.add_row(label, f"{injected[label]:,}")
    return shown


def told(violation: Violation, command: str) -> str:
    """A violation, and how to have it again."""
    about = "the storm as a whole" if violation.number is None else f"creation {violation.number}"
    return f"{violation.kind}: {about}: {violation.what}\n  again: {command}"


def again(violation: Violation, storm: str, seed: int, chosen: argparse.Namespace) -> str:
    """The command that lets the same befall a creation, alone."""
    only = "" if violation.number is None else f" --only {violation.number}"
    return (
        f".venv/bin/python -m tests.chaos --seed {seed} --events {chosen.events}"
        f' --each {chosen.each} --outage {chosen.outage:g} --trouble "{storm}"{only}'
    )


def write(path: Path, rows: Sequence[Row], injected: Mapping[str, int]) -> None:
    """The figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"storms": [asdict(each) for each in rows], "faults": dict(injected)}
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
