"""Where the time of one cold event goes: stages between instants, and the imports in them.

The process tells when its stages end, which costs nothing, so the stages are those of the counted
rounds. How long each package takes to import, and reading the authorities, is from runs of their
own: `-X importtime` slows imports down, so its figures are scaled to the stage as it is without.
What is imported only in a later stage counts as imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tests.benchmarks.clients import Ended, Spent
from tests.benchmarks.instance import MARK

STAGES = ("start", "imports", "initialize", "event", "end")
STANDARD, HTTP, POWERTOOLS, PYDANTIC, OWN = IMPORTS = (
    "importing the standard library",
    "importing httpx or requests, and what they need",
    "importing Powertools",
    "importing pydantic",
    "importing the guard's or the SDK's own modules",
)
STARTING = "starting Python"
TRUSTING = "opening TLS, reading authorities"
COMPUTING = "the event: computing"
WAITING = "the event: waiting for the service"
ENDING = "ending Python"
# Whatever else there is counts with what imports it.
PACKAGES = {
    **dict.fromkeys(("httpx", "httpcore", "h11", "requests", "urllib3", "certifi"), HTTP),
    "aws_lambda_powertools": POWERTOOLS,
    **dict.fromkeys(("pydantic", "pydantic_core"), PYDANTIC),
    **dict.fromkeys(("encryption_guard", "alibabacloud_oss_v2"), OWN),
    **dict.fromkeys(sys.stdlib_module_names, STANDARD),
}
_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| ( *)(\S+)$", re.MULTILINE)

# Seconds of importing each kind of package.
Imports = Mapping[str, float]


@dataclass(frozen=True)
class Profile:
    """The imports of the stages from "imports" to "event", and how long that one read authorities,
    in seconds."""

    imports: Sequence[Imports]
    trusting: float


def stages(process: Ended) -> dict[str, Spent]:
    """What each stage of a process took, by the last line that it printed."""
    told = [float(word) for word in process.output.splitlines()[-1].split()[:-1]]
    instants = [
        Spent(0, process.started),
        *map(Spent, told[1::2], told[0::2]),
        Spent(process.spent.cpu, process.started + process.spent.wall),
    ]
    return {
        stage: Spent(after.cpu - before.cpu, after.wall - before.wall)
        for stage, (before, after) in zip(STAGES, pairwise(instants), strict=True)
    }


def split(log: str) -> list[Imports]:
    """The seconds of each kind of package in an import log, for each stage between two marks."""
    # Before the first mark Python starts, and after the last it only ends.
    return [_imports(stage) for stage in log.split(MARK)[1:-1]]


def _imports(log: str) -> Imports:
    found = dict.fromkeys(IMPORTS, 0.0)
    importers: list[str] = []
    # Backwards, because whoever imports is logged after what it imports, and less indented.
    for microseconds, indent, module in reversed(_IMPORT.findall(log)):
        del importers[len(indent) // 2 :]
        by = importers[-1] if importers else OWN
        importers.append(PACKAGES.get(module.partition(".")[0], by))
        found[importers[-1]] += int(microseconds) / 1e6
    return found


def segments(runs: Sequence[Mapping[str, Spent]], profiles: Sequence[Profile]) -> dict[str, float]:
    """The milliseconds of each segment, from medians."""
    wall = {stage: 1000 * median(run[stage].wall for run in runs) for stage in STAGES}
    waiting = 1000 * median(max(run["event"].wall - run["event"].cpu, 0) for run in runs)
    trusting = 1000 * median(one.trusting for one in profiles)
    eager, *lazy = _scaled(wall["imports"], profiles)
    at_once, later = (sum(imports.values()) for imports in lazy)
    times = {kind: sum(imports[kind] for imports in (eager, *lazy)) for kind in IMPORTS}
    return {
        STARTING: wall["start"],
        **times,
        TRUSTING: wall["initialize"] - at_once + trusting,
        COMPUTING: max(wall["event"] - waiting - later - trusting, 0),
        WAITING: waiting,
        ENDING: wall["end"],
    }


def _scaled(wall: float, profiles: Sequence[Profile]) -> list[Imports]:
    """The medians, so that the first stage's are `wall` together."""
    medians = [
        {kind: median(one.imports[stage][kind] for one in profiles) for kind in IMPORTS}
        for stage in range(3)
    ]
    factor = wall / sum(medians[0].values())
    return [{kind: factor * value for kind, value in imports.items()} for imports in medians]
