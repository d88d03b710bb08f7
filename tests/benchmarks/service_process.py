"""A service in a process of its own, so that the CPU of a client is the client's alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def running(serve: Callable[..., None], *arguments: object) -> Iterator[tuple[Any, Connection]]:
    """Start `serve` in a process, which ends with the block.

    `serve` gets its end of a line and these arguments, and sends where it can be asked. Yield that,
    and the other end of the line.
    """
    spawning = multiprocessing.get_context("spawn")
    line, far_end = spawning.Pipe()
    process = spawning.Process(target=serve, args=(far_end, *arguments), daemon=True)
    process.start()
    far_end.close()
    try:
        yield line.recv(), line
    finally:
        line.close()
        process.join()
