"""The inside of an instance in simulated time: a pause takes none, work takes what it takes.

It is the emulators' stand-in for Function Compute's bootstrap with other clocks. Whoever sleeps
says for how long, and goes on when the parent (`gap_simulated.py`) says what time it is then.
"""

import sys
import threading
import time
from datetime import datetime, tzinfo
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

# The process gets no PYTHONPATH, as on the platform.
sys.path.append(str(Path(__file__).parents[2]))

from tests.emulators import runtime

real_monotonic, real_time = time.monotonic, time.time


class SimulatedTime:
    """The clocks of this process: the machine's, and how far the simulated ones are before them."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests = requests
        self._replies = replies
        self._ahead = 0.0
        self._sleeping = threading.Lock()

    def heed(self, message: runtime.Message) -> None:
        """Set the clocks by a message; before the first invocation, hand them to the package."""
        self._ahead = message["ahead"]
        if "start" in message:
            sys.path.insert(0, message["start"]["layer"])
            import_module("encryption_guard.invocation").__dict__["datetime"] = SimulatedDate

    def monotonic(self) -> float:
        return real_monotonic() + self._ahead

    def time(self) -> float:
        return real_time() + self._ahead

    def sleep(self, seconds: float) -> None:
        with self._sleeping:
            runtime.send(self._replies, {"sleep": seconds})
            message = runtime.receive(self._requests)
        if message is None:
            raise SystemExit
        self.heed(message)


class SimulatedDate(datetime):
    """A date whose present is the simulated one."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "SimulatedDate":
        return cls.fromtimestamp(time.time(), tz)


def main() -> None:
    with runtime.pipes() as (requests, replies):
        simulated = SimulatedTime(requests, replies)
        # Before anything of the function is imported, which may keep the functions themselves.
        for name in ("monotonic", "time", "sleep"):
            setattr(time, name, getattr(simulated, name))
        runtime.serve(requests, replies, simulated.heed)


if __name__ == "__main__":
    main()
