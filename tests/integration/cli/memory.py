"""How much memory a command takes, which only a process of its own can tell."""

from __future__ import annotations

from tests.emulators.cloud import EmulatedCloud
from tests.emulators.operators_shell import start

# The command, and as the last word on standard error the most memory that it ever had, in KB. (Not
# by getrusage: there a process inherits the size of the one that started it.)
MEASURED = """
import atexit, pathlib, re, sys
from encryption_guard.cli import main
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print(re.search(r"VmHWM:\\s+(\\d+)", status)[1], file=sys.stderr)
atexit.register(tell)
main()
"""


def measured(cloud: EmulatedCloud, *command: str) -> tuple[str, int]:
    """What a command printed, and the most memory that it had, in KB."""
    with start(cloud, *command, program=MEASURED) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output, int(errors.split()[-1])
