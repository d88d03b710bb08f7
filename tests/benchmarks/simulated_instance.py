"""The inside of an instance in simulated time: a pause takes none, work takes what it takes.

It is the emulators' stand-in for Function Compute's bootstrap with other clocks. Time leaps only
while nobody works: every thread sleeps or waits for work, and no work waits for a thread. Whoever
has to wake first then says for how long he sleeps, and the parent (`gap_simulated.py`) what time it
is after that. As long as somebody works, a pause takes as long as it says.
"""

import queue
import sys
import threading
import time
from datetime import datetime, tzinfo
from importlib import import_module
from pathlib import Path
from types import GenericAlias
from typing import Any, BinaryIO

# The process gets no PYTHONPATH, as on the platform.
sys.path.append(str(Path(__file__).parents[2]))

from tests.emulators import runtime

real_monotonic, real_time, real_sleep = time.monotonic, time.time, time.sleep
RealQueue = queue.SimpleQueue
# How often a sleeper looks whether somebody works.
LOOK_SECONDS = 0.0002


class Work:
    """How many things in all queues nobody has taken yet, and how many threads wait for one."""

    lock = threading.Lock()
    left = 0
    waiting = 0


class CountingQueue:
    """`queue.SimpleQueue`, which thread pools use too, and says whether there is work."""

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self) -> None:
        self._queue: RealQueue[Any] = RealQueue()

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        # A pool puts None to end its threads, and leaves one behind.
        with Work.lock:
            Work.left += item is not None
        self._queue.put(item, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with Work.lock:
            Work.waiting += 1
        item = None
        try:
            item = self._queue.get(block, timeout)
        finally:
            with Work.lock:
                Work.waiting -= 1
                Work.left -= item is not None
        return item

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def qsize(self) -> int:
        return self._queue.qsize()

    def empty(self) -> bool:
        return self._queue.empty()


class SimulatedTime:
    """The clocks of this process: the machine's, and how far the simulated ones are before them."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests = requests
        self._replies = replies
        self._ahead = 0.0
        # When each sleeper has to wake, and who it is.
        self._due: list[tuple[float, int]] = []

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
        sleeper = due, _ = self.monotonic() + seconds, threading.get_ident()
        with Work.lock:
            self._due.append(sleeper)
        try:
            while self.monotonic() < due:
                if self._may_leap(sleeper):
                    self._leap(due)
                else:
                    real_sleep(LOOK_SECONDS)
        finally:
            with Work.lock:
                self._due.remove(sleeper)

    def _may_leap(self, sleeper: tuple[float, int]) -> bool:
        with Work.lock:
            resting = Work.waiting + len(self._due)
            # One that had to wake before is about to work.
            is_first = min(self._due) == sleeper
            return is_first and not Work.left and resting == threading.active_count()

    def _leap(self, due: float) -> None:
        runtime.send(self._replies, {"sleep": due - self.monotonic()})
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
        setattr(queue, "SimpleQueue", CountingQueue)  # noqa: B010  type checkers know the class
        runtime.serve(requests, replies, simulated.heed)


if __name__ == "__main__":
    main()
