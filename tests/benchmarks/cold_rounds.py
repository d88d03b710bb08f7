"""Processes that each handle an event, in turns; and the proof that all of them did the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from layers.encryption_guard.tools.build import REPOSITORY
from tests.benchmarks.artefacts import Artefacts, Variant, trust_also
from tests.benchmarks.clients import CLIENTS, Ended, Spent, deployed_environment, ended, lasting
from tests.benchmarks.figures import Series
from tests.benchmarks.rounds import take_turns
from tests.benchmarks.service import Service, running_service
from tests.benchmarks.stages import Profile, split, stages

DROPPED, PROFILED = 1, 7
BATCH = 20
EVENT = REPOSITORY / "events" / "response_elements_arn.json"
_PROGRAM = (
    "import sys; sys.path[:1] = sys.argv[1].split(':'); "
    "from tests.benchmarks.instance import {0}; {0}()"
)
_PYDANTIC = ("pydantic_core", "pydantic")


@dataclass(frozen=True)
class Cold:
    """One process: what it spent in all, and in each stage, and its most memory in KiB."""

    spent: Spent
    stages: Mapping[str, Spent]
    peak: int

    @property
    def answered(self) -> Spent:
        """What it had spent when the event was handled."""
        end = self.stages["end"]
        return Spent(self.spent.cpu - end.cpu, self.spent.wall - end.wall)


@dataclass(frozen=True)
class Measured:
    """The counted rounds, the profiles of each variant, and what the floor imports besides."""

    cold: Sequence[Mapping[str, Cold]]
    warm: Series
    profiles: Mapping[str, Sequence[Profile]]
    floor: Sequence[str]

    @property
    def answered(self) -> Series:
        """What the cold processes spent from their start to the answer."""
        return self._spent("cold", lambda one: one.answered)

    @property
    def series(self) -> Sequence[Series]:
        """Cold, the same with the end of Python, and warm."""
        ended = self._spent("to the end", lambda one: one.spent)
        return self.answered, ended, self.warm

    def _spent(self, title: str, of: Callable[[Cold], Spent]) -> Series:
        return Series(title, [{n: of(one) for n, one in turns.items()} for turns in self.cold])


@dataclass(frozen=True)
class Plan:
    """How many rounds of processes are counted, and how many batches of events of lasting ones."""

    rounds: int
    batches: int

    def events(self, variant: str) -> dict[str, int]:
        """How many there are of each kind, the first ones, which do not count, included."""
        lasting = 1 + (DROPPED + self.batches) * BATCH
        return {
            "asked": 1 if variant == "ours" else 0,
            "cold": DROPPED + self.rounds,
            "profiled": PROFILED if variant in CLIENTS else 0,
            "warm": lasting if variant in CLIENTS else 0,
        }

    def processes(self, variant: str) -> int:
        """One for each event, but for the lasting one."""
        events = self.events(variant)
        return sum(events.values()) - max(events["warm"] - 1, 0)

    def buckets(self, variants: Iterable[str]) -> list[str]:
        """The names of all; each event has its own."""
        return [
            f"{stem(variant, kind)}-{number}"
            for variant in variants
            for kind, count in self.events(variant).items()
            for number in range(count)
        ]


def stem(variant: str, kind: str) -> str:
    """What the names of these buckets begin with."""
    return f"{variant.replace('_', '-')}-{kind}"


def program(python: str, name: str, variant: Variant, event: Path, *options: str) -> list[str]:
    """The command that runs this function of instance.py."""
    return [
        *(python, "-S", "-B", *options, "-c", _PROGRAM.format(name)),
        ":".join(map(str, variant.path)),
        ",".join(variant.modules),
        str(event),
    ]


@dataclass(frozen=True)
class Instances:
    """Starts the variants' processes."""

    python: str
    inherited: dict[str, str]
    event: Path = EVENT

    @classmethod
    def of(cls, artefacts: Artefacts, trust: Path, service: Service) -> Instances:
        """In an environment of which everybody learns where the service is, and whom to trust.

        Ours finds authorities in its layer, the limit and the floor the same ones by a variable,
        and look up the one they need; requests, under the SDK, reads the bundle `trust`.
        """
        trust_also(artefacts.authorities, trust)
        inherited = deployed_environment(
            trust,
            AUTHORITIES=str(artefacts.authorities),
            GUARD_OSS_TABLES_ENDPOINT=service.tls,
        )
        return cls(artefacts.python.executable, inherited)

    def command(self, name: str, variant: Variant, bucket: str, *options: str) -> list[str]:
        """Of a process that handles an event of this bucket."""
        return [*program(self.python, name, variant, self.event, *options), bucket]

    def cold(self, variant: Variant, bucket: str) -> Cold:
        """Run a process for one event."""
        process = self._ended("once", variant, bucket)
        peak = int(process.output.split()[-1])
        return Cold(process.spent, stages(process), peak)

    def profile(self, variant: Variant, bucket: str) -> Profile:
        """The same, and look into it."""
        process = self._ended("profiled", variant, bucket, "-X", "importtime")
        return Profile(split(process.log), float(process.output.split()[-1]))

    def loaded(self, variant: Variant, bucket: str) -> set[str]:
        """The modules that are loaded after an event."""
        return set(self._ended("loaded", variant, bucket).output.splitlines()[-1].split())

    def _ended(self, program: str, variant: Variant, bucket: str, *options: str) -> Ended:
        return ended(self.command(program, variant, bucket, *options), self.inherited)


def measure(artefacts: Artefacts, plan: Plan) -> Measured:
    """Cold rounds, profiles and warm batches.

    Raises RuntimeError if any event did not encrypt its bucket with one GET and one PUT.
    """
    variants = dict(artefacts.variants)
    buckets = plan.buckets(variants)
    trust = artefacts.folder / "trust.pem"
    with running_service(trust, buckets) as service:
        start = Instances.of(artefacts, trust, service)
        variants["floor"] = _floor(start, variants)
        measured = Measured(
            cold=_cold(start, variants, plan),
            warm=_warm(start, variants, plan),
            profiles=_profiles(start, variants),
            floor=variants["floor"].modules[:-1],
        )
        _check(service, buckets, sum(map(plan.processes, variants)))
    return measured


def _floor(start: Instances, variants: Mapping[str, Variant]) -> Variant:
    """On what ours stands on: as much of pydantic as ours has loaded after an event."""
    floor, loaded = variants["floor"], start.loaded(variants["ours"], f"{stem('ours', 'asked')}-0")
    return Variant(floor.path, (*(name for name in _PYDANTIC if name in loaded), *floor.modules))


def _cold(start: Instances, variants: Mapping[str, Variant], plan: Plan) -> list[dict[str, Cold]]:
    rounds = []
    for number in range(DROPPED + plan.rounds):
        turns = {
            name: partial(start.cold, variant, f"{stem(name, 'cold')}-{number}")
            for name, variant in variants.items()
        }
        rounds.append(take_turns(turns, number))
    return rounds[DROPPED:]


def _profiles(start: Instances, variants: Mapping[str, Variant]) -> dict[str, list[Profile]]:
    return {
        name: [
            start.profile(variants[name], f"{stem(name, 'profiled')}-{number}")
            for number in range(PROFILED)
        ]
        for name in CLIENTS
    }


def _warm(start: Instances, variants: Mapping[str, Variant], plan: Plan) -> Series:
    with ExitStack() as stack:
        turns = {}
        for name in CLIENTS:
            command = start.command("lasting", variants[name], stem(name, "warm"))
            opened = stack.enter_context(lasting(command, start.inherited))
            turns[name] = partial(opened.batch, BATCH)
        rounds = [take_turns(turns, number) for number in range(DROPPED + plan.batches)]
    return Series("warm", rounds[DROPPED:])


def _check(service: Service, buckets: Sequence[str], processes: int) -> None:
    seen, _ = service.seen()
    wrong = [one for one in buckets if seen.asked.get(one) != ("GET 200", "PUT 200")]
    if wrong or set(seen.asked) != set(buckets) or seen.encrypted != set(buckets):
        raise RuntimeError(
            f"of {len(buckets)} buckets, {len(seen.encrypted)} were encrypted; not asked for as"
            f" they should be were {[(one, seen.asked.get(one)) for one in wrong][:5]}"
        )
    if seen.connections != processes:
        raise RuntimeError(f"{processes} processes opened {seen.connections} connections")
