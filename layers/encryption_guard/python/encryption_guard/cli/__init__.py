"""The `encryption-guard` command line: it reads arguments and prints results."""

from __future__ import annotations

import click

from encryption_guard.cli.console import Commands, say
from encryption_guard.settings import unknown_names
from encryption_guard.version import __version__

COMMANDS = {
    "dead-letters": "encryption_guard.cli.dead_letters",
    "enforce": "encryption_guard.cli.enforce",
    "status": "encryption_guard.cli.status",
    "sweep": "encryption_guard.cli.sweep",
}


@click.group(
    cls=Commands, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="encryption-guard")
def main() -> None:
    """Encrypt OSS table buckets and handle the dead letters of the guard."""
    for name, advice in unknown_names().items():
        say(f"{name} is not a setting, and has no effect. {advice}")
