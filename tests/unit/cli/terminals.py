"""A program of the guard on a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress

from tests.emulators.cloud import REPOSITORY


def on_a_terminal(program: str, *streams: str, **environment: str) -> tuple[str, str]:
    """What a program writes to a terminal that these of its streams lead to, and to a pipe."""
    ours, theirs = pty.openpty()
    leads_to = {name: theirs if name in streams else subprocess.PIPE for name in ("out", "err")}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
            "TERM": "xterm",
            "COLUMNS": "100",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=leads_to["out"],
        stderr=leads_to["err"],
    ) as process:
        os.close(theirs)
        shown = b""
        # Linux says that nobody is at the other end any more with an error.
        with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(4096):
                shown += chunk
        piped = b"".join(filter(None, process.communicate(timeout=30)))
    assert process.returncode == 0
    return shown.decode(), piped.decode()
