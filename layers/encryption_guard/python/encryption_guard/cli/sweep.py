"""`encryption-guard sweep`: check every table bucket from an operator's shell."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from encryption_guard.arn import Scope, is_region
from encryption_guard.cli.as_deployed import read_deployed
from encryption_guard.cli.changes import read_report
from encryption_guard.cli.console import NOT_SEEN, misuse, say
from encryption_guard.cli.evidence import Conditions, Origin
from encryption_guard.cli.sweep_rows import pluralize
from encryption_guard.cli.sweep_run import Outputs, SweepCommand
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import ConfigurationError, GuardError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.inventory import REGIONS
from encryption_guard.services.sts import Caller, read_caller
from encryption_guard.settings import Settings
from encryption_guard.sweep.findings import Totals

# The identity is asked for before the first bucket is read.
CALLER_SECONDS: Final = 3.0


def _regions(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    regions = [region.strip() for each in given for region in each.split(",")]
    for region in regions:
        if not is_region(region):
            raise click.BadParameter(f"{region!r} is not a region ID, such as cn-hangzhou.")
    return tuple(dict.fromkeys(regions))


@click.command("sweep", short_help="Check every table bucket, and encrypt with --apply.")
@click.option(
    "--region",
    "regions",
    metavar="ID[,ID]",
    multiple=True,
    callback=_regions,
    help="Sweep this region, for example cn-hangzhou; repeat the option for more regions. Default:"
    " GUARD_SWEEP_REGIONS, or else FC_REGION.",
)
@click.option("--all-regions", is_flag=True, help="Sweep every region that offers OSS Tables.")
@click.option(
    "--apply",
    is_flag=True,
    help="Encrypt the unencrypted buckets. Without this option the command changes nothing, and"
    " shows what it would encrypt.",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Also check the encryption of every table, as with GUARD_AUDIT_TABLES=true.",
)
@click.option(
    "--as-deployed",
    is_flag=True,
    help="Use the exemptions and the allowed accounts of the deployed function instead of those of"
    " your shell.",
)
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format; json prints one object per line, with the totals in the last one.",
)
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to this file as an HTML report, for example for an auditor.",
)
@click.option(
    "--report",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write report.html, report.json and report.csv into this folder, and print the"
    " SHA-256 of each.",
)
@click.option(
    "--compare",
    "old_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also show what is new, gone and changed since this earlier report.json.",
)
def sweep(
    regions: tuple[str, ...],
    all_regions: bool,
    apply: bool,
    tables: bool,
    as_deployed: bool,
    output: str,
    html_path: Path | None,
    folder: Path | None,
    old_path: Path | None,
) -> None:
    """Check every table bucket; with --apply, encrypt the unencrypted ones.

    The command uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on) and the
    GUARD_* settings.

    It exits with 0 if everything that it checked is encrypted or exempt; with 1 if anything is
    unencrypted, or if the output could not be written; with 2 if an option, a setting or the
    credentials are wrong; with 3 if nothing is known to be unencrypted, but something could not be
    checked; with 130 if it was stopped.
    """
    if regions and all_regions:
        misuse("Use either --region or --all-regions, not both.")
    outputs = Outputs(output, html_path, folder)
    outputs.check()
    try:
        old = read_report(old_path) if old_path else None
        audit = {"GUARD_AUDIT_TABLES": "true" if tables else None}
        settings = Settings.from_environment(overrides=audit)
        chosen = (REGIONS if all_regions else regions) or settings.sweep_regions
        chosen = chosen or ((settings.region,) if settings.region else ())
        if not chosen:
            misuse("No region: pass --region or --all-regions, or set GUARD_SWEEP_REGIONS.")
        with open_command(settings, seconds=math.inf) as invocation:
            invocation.read_credentials()  # without credentials, fail once and not for each bucket
            conditions = _conditions(invocation, chosen, outputs, apply, as_deployed)
            invocation = invocation._replace(settings=conditions.settings)
            scopes = [Scope(settings.account_id, region) for region in chosen]
            command = SweepCommand(invocation, Totals.empty(scopes), outputs, conditions, old)
            command.run(scopes)
    except ConfigurationError as error:
        misuse(str(error))
    except Unavailable as error:
        say(str(error))
        sys.exit(NOT_SEEN)
    sys.exit(command.exit_code)


def _conditions(
    invocation: Invocation,
    regions: Sequence[str],
    outputs: Outputs,
    apply: bool,
    as_deployed: bool,
) -> Conditions:
    """Return when, by whom and with which settings the sweep runs; say this before it encrypts."""
    origin: Origin
    caller, no_caller = None, "not asked"
    if apply or as_deployed or outputs.is_evidence:
        caller, no_caller = _read_caller(invocation)
    settings, origin = invocation.settings, "shell"
    if as_deployed:
        account_id = settings.account_id or (caller.account_id if caller else None)
        settings, origin = read_deployed(invocation, regions, account_id), "deployed"
    if apply:
        key = invocation.read_credentials().access_key_id[:4]
        who = caller.arn if caller else f"an unknown caller ({no_caller})"
        say(f"acting as {who}, with the access key {key}... of your shell.")
    if settings.exemptions or as_deployed:
        count = pluralize(len(settings.exemptions), "exemption")
        say(f"{count}, from {'the deployed function' if as_deployed else 'your shell'}.")
    return Conditions(
        started_at=invocation.clock.now(),
        settings=settings,
        applied=apply,
        caller=caller,
        no_caller=None if caller else no_caller,
        exemptions_from=origin,
    )


def _read_caller(invocation: Invocation) -> tuple[Caller | None, str]:
    """Return the caller, or None and why it is not known: a sweep does not need it."""
    try:
        return read_caller(invocation.within(CALLER_SECONDS)), ""
    except GuardError as error:
        return None, str(error)
