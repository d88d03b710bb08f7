"""The inside of a warm client's process: so many requests for each line that comes in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def serve(put: Callable[[], object]) -> None:
    """Answer every number on standard input with the CPU and wall seconds of so many calls."""
    for line in sys.stdin:
        count = int(line)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            put()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(cpu, wall, flush=True)
