"""Ctrl-C and SIGTERM: the first ends what is under way, and none of them the cleaning up."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at the first signal; after the function was called, at none."""
    holding = False

    def hold() -> None:
        nonlocal holding
        holding = True

    def heard(_number: int, _frame: FrameType | None) -> None:
        if holding:
            tell("Cleaning up: what was made is being deleted, please wait.")
            return
        # At once: a second signal must not find a way into the cleaning up.
        hold()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield hold
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
