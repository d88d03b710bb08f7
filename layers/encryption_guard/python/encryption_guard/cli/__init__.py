"""The `encryption-guard` command line: it reads arguments and prints results."""

from __future__ import annotations

import click

from encryption_guard.cli.console import Commands, say
from encryption_guard.cli.dead_letters import dead_letters as dead_letters_group
from encryption_guard.cli.enforce import enforce as enforce_command
from encryption_guard.cli.status import status as status_command
from encryption_guard.cli.sweep import sweep as sweep_command
from encryption_guard.settings import unknown_names
from encryption_guard.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="encryption-guard")
def main() -> None:
    """Encrypt OSS table buckets and handle the dead letters of the guard."""
    for name, advice in unknown_names().items():
        say(f"{name} is not a setting, and has no effect. {advice}")


main.add_command(enforce_command)
main.add_command(sweep_command)
main.add_command(status_command)
main.add_command(dead_letters_group)
