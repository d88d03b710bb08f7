"""What the worst events cost: `python -m tests.fuzz.costs`, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from tests.fuzz.door import Visit, opened
from tests.fuzz.hostile import worst_cases

HEADINGS = ("KB", "CPU ms", "RSS MB", "MB", "log KB", "events", "letters", "lines")
BEST_OF = 3
# For one case, however it ends.
LONGEST_SECONDS = 25
# What a process makes of a high-water mark: proc(5), /proc/[pid]/clear_refs.
_RESET = "5"


def _resident_mb(line: str) -> float:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition(f"{line}:")[2].split()[0]) / 1000


def measure(event: bytes) -> tuple[Visit, float, float]:
    """The visit that cost least, the resident memory that the first took, and what was traced."""
    with opened() as door:
        door.visit(b'{"data": {"eventName": "x"}}')
        door.visit(b"{}")
        Path("/proc/self/clear_refs").write_text(_RESET, "ascii")
        before = _resident_mb("VmRSS")
        visits = [door.visit(event)]
        resident = _resident_mb("VmHWM") - before
        repeats = BEST_OF - 1 if visits[0].cpu_ms < 1000 else 0
        visits += [door.visit(event) for _ in range(repeats)]
        return min(visits, key=lambda visit: visit.cpu_ms), resident, door.traced(event)[1]


def main() -> None:
    """Print a row for each of the worst cases, or of those whose names begin as asked."""
    print(f"{'case':40}" + "".join(f"{name:>9}" for name in HEADINGS))
    for name, event in worst_cases().items():
        if not name.startswith(tuple(sys.argv[1:] or [""])):
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                figures = _figures(event, pool.apply_async(measure, (event,)).get(LONGEST_SECONDS))
            except multiprocessing.TimeoutError:
                figures = [f"more than {LONGEST_SECONDS} s"]
        print(f"{name:40}" + "".join(f"{figure:>9}" for figure in figures), flush=True)


def _figures(event: bytes, measured: tuple[Visit, float, float]) -> list[str]:
    visit, resident, traced = measured
    told = (len(event) / 1024, visit.cpu_ms, resident, traced, visit.log_size / 1024)
    counts = (len(visit.outcomes), len(visit.letters), visit.log_lines)
    return [*(f"{figure:.1f}" for figure in told), *map(str, counts), *visit.wrong[:1]]


if __name__ == "__main__":
    main()
