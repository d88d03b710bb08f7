"""A search for events that break the function: `python -m tests.fuzz.handler --seconds 60`.

Guided by the coverage of the guard's own code, through the real door, in a world that answers well:

    samples ─▶ mutated ─▶ handler ─▶ an exception? another host? too much time or memory? ─▶ saved

Exit 1 if there was anything of that; the inputs are then under build/fuzz/.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.door import Door, Visit

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "events"
DICTIONARY = Path(__file__).with_name("events.dict")
FOUND = REPOSITORY / "build" / "fuzz"

LARGEST = 128 * 1024
MOST_CPU_MS = 100.0
# Beyond the first hundred, since each has its own requests, letter and log line.
MOST_CPU_MS_OF_AN_EVENT = 1.0
MOST_MEGABYTES = 20.0
# What comes between in one measurement does not in all.
BEST_OF = 3
NOT_INSTALLED = 3
MAX_LISTED = 20
# Large ones are slow; the search makes its own where they lead to something new.
LARGEST_SEED = 4 * 1024


@dataclass
class Search:
    """One search: every input has its turn at the door, and what it cost is kept."""

    door: Door
    executed: int = 0
    slowest_ms: float = 0.0
    most_mb: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: dict[str, str] = field(default_factory=dict)

    def take(self, event: bytes) -> None:
        """Hand one input in, twice: memory is not measured without slowing it down."""
        visit = self.door.visit(event)
        _, peak = self.door.traced(event)
        cpu_ms = visit.cpu_ms
        if cpu_ms > _allowed_ms(visit):
            cpu_ms = min(cpu_ms, *(self.door.visit(event).cpu_ms for _ in range(BEST_OF - 1)))
        self.executed += 1
        self.slowest_ms = max(self.slowest_ms, cpu_ms)
        self.most_mb = max(self.most_mb, peak)
        self.outcomes.update(visit.outcomes)
        wrong = list(visit.wrong)
        if cpu_ms > _allowed_ms(visit):
            wrong.append(f"took {cpu_ms:.0f} ms for {len(visit.outcomes)} events")
        if peak > MOST_MEGABYTES:
            wrong.append(f"took {peak:.1f} MB")
        if wrong:
            self._keep(event, wrong[0])

    def _keep(self, event: bytes, why: str) -> None:
        FOUND.mkdir(parents=True, exist_ok=True)
        file = FOUND / sha256(event).hexdigest()[:16]
        file.write_bytes(event)
        self.violations[str(file.relative_to(REPOSITORY))] = ascii(why)[:200]


def _allowed_ms(visit: Visit) -> float:
    return max(MOST_CPU_MS, MOST_CPU_MS_OF_AN_EVENT * len(visit.outcomes))


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.handler", description=__doc__)
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--seconds", type=int, default=60)
    how_long.add_argument("--runs", type=int)
    by_lot = random.SystemRandom().randrange(1, 2**31)
    parser.add_argument("--seed", type=int, default=by_lot, help="another one each time")
    return parser.parse_args()


def _fuzzer() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        version = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
        print(
            f"atheris is not installed for {version} on {sys.platform}: pip install"
            " --require-hashes -r requirements-fuzz.txt, where there is a wheel of it.",
            file=sys.stderr,
        )
        sys.exit(NOT_INSTALLED)


@contextmanager
def _corpus(seeds: Iterable[bytes]) -> Iterator[Path]:
    """A folder that the search begins with and adds to; it does not outlive it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number:03}").write_bytes(seed)
        yield folder


def _go(fuzzer: Any, told: argparse.Namespace, search: Search, corpus: Path) -> None:
    until = time.monotonic() + told.seconds

    def one(event: bytes) -> None:
        search.take(event)
        if search.executed >= told.runs if told.runs else time.monotonic() >= until:
            # The one way in which libFuzzer lets go of the process.
            raise KeyboardInterrupt

    options = [f"-seed={told.seed}", f"-max_len={LARGEST}", f"-dict={DICTIONARY}", "-timeout=60"]
    options.append("-verbosity=0")
    fuzzer.Setup([sys.argv[0], *options, f"-artifact_prefix={FOUND}/", str(corpus)], one)
    with suppress(SystemExit):
        fuzzer.Fuzz()


def _table(search: Search, corpus: Path) -> dict[str, object]:
    return {
        "inputs executed": search.executed,
        "inputs in the corpus": len(list(corpus.iterdir())),
        "slowest input": f"{search.slowest_ms:.1f} ms",
        "most memory of one input": f"{search.most_mb:.1f} MB",
        **{f"  {kind}": number for kind, number in search.outcomes.most_common()},
        "violations": len(search.violations),
        **{f"  {file}": why for file, why in list(search.violations.items())[:MAX_LISTED]},
    }


def main() -> None:
    """Search, print what was found, and say in the exit code whether that was anything."""
    told = _told()
    fuzzer = _fuzzer()
    FOUND.mkdir(parents=True, exist_ok=True)
    with fuzzer.instrument_imports(include=["encryption_guard", "functions"]):
        door = importlib.import_module("tests.fuzz.door")
        hostile = importlib.import_module("tests.fuzz.hostile")
    samples = [file.read_bytes() for file in sorted(SAMPLES.iterdir()) if file.stem != "README"]
    small = [event for event in hostile.worst_cases().values() if len(event) <= LARGEST_SEED]
    with _corpus([*samples, *small]) as corpus:
        with door.opened() as instance:
            search = Search(instance)
            _go(fuzzer, told, search, corpus)
        for name, value in ({"seed": told.seed} | _table(search, corpus)).items():
            print(f"{name:44} {value}")
    sys.stdout.flush()
    # libFuzzer would end the process in a way of its own.
    os._exit(1 if search.violations else 0)


if __name__ == "__main__":
    main()
