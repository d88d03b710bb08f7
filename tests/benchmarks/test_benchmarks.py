"""What the benchmarks reckon; what they measure is not tested."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.benchmarks.bars import draw
from tests.benchmarks.clients import Ended, Spent
from tests.benchmarks.cold_rounds import BATCH, DROPPED, PROFILED, Plan
from tests.benchmarks.figures import OVERHEAD, Series
from tests.benchmarks.gap import export, printed
from tests.benchmarks.gap_figures import (
    LATE,
    NEVER,
    ON_TIME,
    Comparison,
    Creation,
    Measured,
    creations,
)
from tests.benchmarks.gap_simulated import measure as simulate
from tests.benchmarks.instance import MARK
from tests.benchmarks.pace_figures import Asked, Costs, Held, Pace, paces
from tests.benchmarks.rounds import take_turns
from tests.benchmarks.stages import (
    COMPUTING,
    ENDING,
    HTTP,
    OWN,
    POWERTOOLS,
    PYDANTIC,
    STAGES,
    STANDARD,
    STARTING,
    TRUSTING,
    WAITING,
    Profile,
    segments,
    split,
    stages,
)
from tests.benchmarks.sweep import BESIDE, OURS, THROTTLED, Regions, Run, Speed
from tests.emulators.cloud import REPOSITORY

# As Python 3.12 writes it: what is imported comes before who imports it, and is indented.
LOG = f"""
import time: self [us] | cumulative | imported package
import time:       900 |        900 | encodings
{MARK}
import time:        40 |         40 |         _sha2
import time:       100 |        140 |       hashlib
import time:       300 |        300 |       anyio
import time:       200 |        640 |     httpx
import time:        30 |         30 |     pydantic_core
import time:        70 |         70 |     unheard_of.part
import time:       500 |       1240 |   encryption_guard.transport
import time:        50 |       1290 | index
{MARK}
import time:        60 |         60 | ssl
{MARK}
import time:        20 |         20 |   jmespath
import time:        10 |         30 | aws_lambda_powertools
{MARK}
import time:       800 |        800 | atexit
"""


def of_milliseconds(**spent: float) -> dict[str, Spent]:
    return {name: Spent(value / 1000, value / 500) for name, value in spent.items()}


def test_ratios_are_medians_of_the_rounds_own() -> None:
    """A machine that is slow for a round does not change them; the medians' ratio would differ."""
    series = Series(
        "cold",
        [
            of_milliseconds(ours=2, official_sdk=4, limit=1, floor=1),
            of_milliseconds(ours=60, official_sdk=100, limit=20, floor=20),
            of_milliseconds(ours=9, official_sdk=10, limit=5, floor=6),
        ],
    )

    assert series.between("ours", "official_sdk", "cpu") == pytest.approx(0.6)
    assert series.between("ours", "floor", "wall") == pytest.approx(2)
    assert series.ratio("guard / SDK", "cpu") == pytest.approx(0.6)
    assert series.ratio(OVERHEAD, "cpu") == pytest.approx(0.5)


def a_run(rate: float = 1, seconds: float = 1, **done_after: float) -> Run:
    return Run(rate, 1 / rate, seconds, {THROTTLED: 30, **done_after}, refused=8)


def test_a_sweep_is_compared_with_the_sdk_that_has_as_many_threads() -> None:
    """Else the factor would be that of the threads."""
    rounds = [
        {
            "official SDK": a_run(40),
            "official SDK, 8 threads": a_run(rate),
            OURS: a_run(330),
            BESIDE: a_run(150),
        }
        for rate in (300, 30, 3000)
    ]
    speed = Speed(rounds, 0, 0)

    assert speed.ratio(OURS, "buckets_per_second") == pytest.approx(1.1)
    assert speed.ratio(BESIDE, "cpu_ms_per_bucket") == pytest.approx(2)
    assert speed.ratio("official SDK", "cpu_ms_per_bucket") == 1


def test_a_throttled_region_is_measured_by_the_others() -> None:
    """How much later the last of them is done than in the usual round."""
    rounds = [{OURS: a_run(seconds=s, one=s - 1, two=s)} for s in (3, 2, 20)]
    regions = Regions(rounds, {OURS: a_run(one=2, two=3.25)})

    assert regions.later(OURS) == pytest.approx(0.25)
    assert regions.seconds(OURS) == [3, 2, 20]


def test_each_order_of_four_has_its_turn() -> None:
    """Nobody always runs after the same other one; the results stay in the variants' order."""
    ran: list[str] = []
    turns = {name: lambda name=name: ran.append(name) for name in "abcd"}

    rounds = [take_turns(turns, number) for number in range(24)]

    orders = ["".join(ran[start : start + 4]) for start in range(0, len(ran), 4)]
    assert set(orders) == {"".join(order) for order in permutations("abcd")}
    assert all(list(results) == list("abcd") for results in rounds)


def test_every_event_has_its_own_bucket() -> None:
    """As many buckets as events; a process handles one event, or a lasting one all of its own."""
    plan = Plan(rounds=15, batches=2)

    names = plan.buckets(["ours", "floor"])

    cold, warm = DROPPED + 15, 1 + (DROPPED + 2) * BATCH
    assert len(names) == len(set(names)) == (1 + cold + PROFILED + warm) + cold
    assert plan.processes("ours") == 1 + cold + PROFILED + 1
    assert plan.processes("floor") == cold


def test_an_import_counts_with_its_package_or_with_who_imports_it() -> None:
    """Stage by stage, without Python's own start and end."""
    imports, initialize, event = split(LOG)

    assert imports == pytest.approx(
        {STANDARD: 140e-6, HTTP: 500e-6, POWERTOOLS: 0, PYDANTIC: 30e-6, OWN: 620e-6}
    )
    assert (initialize[STANDARD], sum(initialize.values())) == pytest.approx((60e-6, 60e-6))
    assert (event[POWERTOOLS], sum(event.values())) == pytest.approx((30e-6, 30e-6))


def test_stages_are_between_what_the_process_and_its_parent_tell() -> None:
    """The last line has an instant and the CPU at the end of each stage, and the memory."""
    printed = "a line of the log\n100.01 0.008 100.11 0.1 100.12 0.105 100.15 0.12 20000\n"
    found = stages(Ended(Spent(0.15, 0.2), 100.0, printed, ""))

    walls = {stage: spent.wall for stage, spent in found.items()}
    assert walls == pytest.approx(dict(zip(STAGES, (0.01, 0.1, 0.01, 0.03, 0.05), strict=True)))
    cpu = {stage: spent.cpu for stage, spent in found.items()}
    assert cpu == pytest.approx(dict(zip(STAGES, (8e-3, 0.092, 5e-3, 0.015, 0.03), strict=True)))


def test_the_segments_are_all_of_a_cold_event() -> None:
    """What was imported late is an import, and reading authorities in the event is no part of it.

    The profile was half as fast as what is counted.
    """
    run = {stage: Spent(0.01, 0.01) for stage in STAGES} | {"event": Spent(0.03, 0.05)}
    nothing = dict.fromkeys((STANDARD, HTTP, POWERTOOLS, PYDANTIC, OWN), 0.0)
    profile = Profile(
        [
            nothing | {STANDARD: 0.004, OWN: 0.016},
            nothing | {HTTP: 0.002},
            nothing | {POWERTOOLS: 0.006},
        ],
        trusting=0.012,
    )

    found = segments([run], [profile])

    assert sum(found.values()) == pytest.approx(90)
    assert {name: value for name, value in found.items() if value} == pytest.approx(
        {STARTING: 10, STANDARD: 2, HTTP: 1, POWERTOOLS: 3, OWN: 8}
        | {TRUSTING: 21, COMPUTING: 15, WAITING: 20, ENDING: 10}
    )


def test_the_picture_names_every_segment_with_its_milliseconds() -> None:
    """Also those that are too narrow for a number; what nobody has is left out."""
    names = (STARTING, STANDARD, HTTP, POWERTOOLS, PYDANTIC, OWN, TRUSTING, COMPUTING, WAITING)
    bar = {name: 3.25 + place for place, name in enumerate((*names, ENDING))} | {PYDANTIC: 0.0}

    picture = draw("Where it goes", {"ours": bar, "limit": bar | {STARTING: 90.0}})

    root = ElementTree.fromstring(picture)  # noqa: S314  our own
    texts = {text for element in root.iter() if (text := (element.text or "").strip())}
    assert {"Where it goes", "ours", "limit", "70 ms", "157 ms", "90"} <= texts
    assert {name for name in bar if name in texts} == set(bar) - {PYDANTIC}
    assert {f"{value:.1f}" for value in bar.values() if value} <= texts
    assert picture == draw("Where it goes", {"ours": bar, "limit": bar | {STARTING: 90.0}})


def test_the_gap_is_compared_where_events_are_late_or_never_come() -> None:
    """The ratios are those of all such buckets of all runs; events on time have their own.

    A percentile lies between two gaps; what a day costs is extrapolated from the run.
    """
    twenty = [float(gap) for gap in range(21)]
    comparison = Comparison(
        ours={
            "real": Measured({NEVER: [2, 2], ON_TIME: [1, 3]}, 60, 30, 12),
            "simulated": Measured({NEVER: [2], LATE: [2, 4, 3, 2]}, 43_200, 500, 400, 2.5),
        },
        baseline={
            "real": Measured({NEVER: [20, 40], ON_TIME: [2, 2]}, 60, 3, 1),
            "simulated": Measured({LATE: twenty}, 86_400, 50, 40, 1.5),
        },
    )

    document = comparison.document()

    assert document["median_ratio"] == pytest.approx(2 / 11)
    assert document["p95_ratio"] == pytest.approx(3.7 / 20)
    assert document["events"][ON_TIME]["median_ratio"] == 1
    assert document["events"][NEVER]["baseline"] == {"buckets": 2, "median": 30, "p95": 39}
    assert list(document["runs"]["real"]["events"]) == [NEVER, ON_TIME]
    assert document["runs"]["simulated"]["a_day"] == {
        "ours": {"requests": 1000, "lists": 800, "cpu_seconds": 5},
        "baseline": {"requests": 50, "lists": 40, "cpu_seconds": 1.5},
    }
    assert document["runs"]["real"]["a_day"]["ours"]["cpu_seconds"] is None


def test_without_a_baseline_the_gap_alone_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown commit says so and compares with nothing, as an empty one does."""
    measured = Measured({NEVER: [1.0, 2.0], LATE: [], ON_TIME: []}, 60, 30, 12, 0.5)

    assert export("", tmp_path) is export("no-such-ref", tmp_path) is None
    assert "There is no baseline no-such-ref" in capsys.readouterr().err

    document = Comparison({"simulated": measured}).document()
    console = Console(width=110)
    with console.capture() as captured:
        for line in printed(document, both=False):
            console.print(line)
    assert document["median_ratio"] is document["p95_ratio"] is None
    assert "baseline" not in captured.get()
    assert "1.500" in captured.get()
    assert list(document["runs"]["simulated"]["a_day"]) == ["ours"]


def test_both_builds_get_the_same_buckets_at_the_same_instants() -> None:
    """Within the given time, in order, and others for another seed."""
    planned = creations({NEVER: 30, LATE: 10}, first=60, last=90, seed=7)

    assert planned == creations({NEVER: 30, LATE: 10}, first=60, last=90, seed=7)
    assert planned != creations({NEVER: 30, LATE: 10}, first=60, last=90, seed=8)
    assert planned == sorted(planned)
    assert len({each.name for each in planned}) == 40
    assert all(60 <= each.at <= 90 for each in planned)
    delays = [round(each.event_at - each.at) for each in planned if each.event_at]
    assert delays == [600] * 10


def test_the_pace_is_the_time_between_two_lists_of_a_region() -> None:
    """Each interval counts where it lies: over a tick, in a full sweep, or in neither.

    Late is what is longer than the pace by more than a second; the CPU of an hour has the full
    sweeps of an hour.
    """
    near = {0.5: "List", 1.0: "Get", 4.0: "Get", 5.5: "List", 12.0: "List", 17.0: "List"}
    far = {2.0: "List", 8.0: "List", 61.0: "List"}
    asked = [
        Asked(at, region, f"{operation}TableBuckets")
        for region, instants in (("near", near), ("far", far))
        for at, operation in instants.items()
    ]
    held = Held(asked, [0, 60], Costs([5.0, 1.0, 3.0], 2048))

    assert paces(asked, [0, 60]) == {
        "full sweep": Pace(intervals=2, median=5.5, longest=6.0, late=0),
        "steady": Pace(intervals=2, median=5.75, longest=6.5, late=1),
        "hand-over": Pace(intervals=1, median=53.0, longest=53.0, late=1),
    }
    assert held.full_sweep == 4
    assert held.document()["cpu_seconds_an_hour"] == 60 * 2 + 12 * 3
    assert held.document()["peak_mib"] == 2


def test_simulated_time_leaps_over_pauses_alone() -> None:
    """The watch lists every five simulated seconds, and what it finds has its own time to be done.

    A leap while a thread checks a bucket would add a whole pause to its gap.
    """
    buckets = [Creation(at, f"never-{at:.0f}", NEVER) for at in (61.0, 72.0, 83.0, 94.0)]

    measured = simulate(REPOSITORY, [*buckets, Creation(99.0, "on-time", ON_TIME)])

    found = zip(buckets, measured.gaps[NEVER], strict=True)
    assert [round(each.at + gap) for each, gap in found] == [65, 75, 85, 95]
    assert measured.gaps[ON_TIME][0] < 1
    assert measured.lists == pytest.approx(measured.seconds / 5, abs=5)
