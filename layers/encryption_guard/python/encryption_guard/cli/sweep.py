"""`encryption-guard sweep`: check every table bucket from an operator's shell."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from encryption_guard.arn import Scope
from encryption_guard.cli.accounts import (
    Choice,
    ChosenAccounts,
    account_options,
    choose_accounts,
    own_account,
    role_option,
)
from encryption_guard.cli.as_deployed import read_deployed
from encryption_guard.cli.changes import read_report
from encryption_guard.cli.console import NOT_SEEN, FileName, bucket_glob, misuse, note, say
from encryption_guard.cli.credentials import (
    find_caller,
    open_command,
    profile_option,
    say_who_acts,
)
from encryption_guard.cli.evidence import Conditions, Origin
from encryption_guard.cli.regions import choose_regions, region_options
from encryption_guard.cli.row_filter import (
    RowFilter,
    limit_option,
    only_problems_option,
    sort_option,
    state_option,
)
from encryption_guard.cli.sweep_rows import pluralize
from encryption_guard.cli.sweep_run import Outputs, SweepCommand
from encryption_guard.cli.verbosity import verbosity_options
from encryption_guard.enforcement.policy import exemption_warnings
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.settings import Settings
from encryption_guard.sweep.findings import Totals


@click.command("sweep", short_help="Check every table bucket, and encrypt with --apply.")
@region_options("Sweep")
@account_options("Sweep")
@role_option
@click.option(
    "--apply",
    is_flag=True,
    help="Encrypt the unencrypted buckets. Without this option the command changes nothing, and"
    " shows what it would encrypt.",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Check the encryption of every table, as with GUARD_AUDIT_TABLES=true. By default, the"
    " command checks the tables of the buckets that it encrypted late.",
)
@click.option(
    "--bucket",
    "glob",
    metavar="GLOB",
    callback=bucket_glob,
    help="Check only buckets with a matching name, such as 'orders-*'.",
)
@click.option(
    "--as-deployed",
    is_flag=True,
    help="Use the exemptions and the allowed accounts of the deployed function instead of those of"
    " your shell, in every account.",
)
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Output format; json prints one object per line, with the totals in the last one.",
)
@state_option
@only_problems_option
@sort_option
@limit_option
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    type=FileName(dir_okay=False, path_type=Path),
    help="Also write the results to this file as an HTML report, for example for an auditor.",
)
@click.option(
    "--report",
    "folder",
    metavar="DIR",
    type=FileName(file_okay=False, path_type=Path),
    help="Also write report.html, report.json and report.csv into this folder, and print the"
    " SHA-256 of each.",
)
@click.option(
    "--compare",
    "old_path",
    metavar="FILE",
    type=FileName(dir_okay=False, path_type=Path),
    help="Also show what is new, gone and changed since this earlier report.json.",
)
@profile_option
@verbosity_options
def sweep(
    regions: tuple[str, ...],
    all_regions: bool,
    organization: bool,
    account_ids: tuple[str, ...],
    role: str | None,
    apply: bool,
    tables: bool,
    glob: str | None,
    as_deployed: bool,
    output: str,
    states: tuple[str, ...],
    only_problems: bool,
    sort: str | None,
    limit: int | None,
    html_path: Path | None,
    folder: Path | None,
    old_path: Path | None,
) -> None:
    """Check every table bucket; with --apply, encrypt the unencrypted ones.

    The command uses the credentials of your shell (ALIBABA_CLOUD_ACCESS_KEY_ID and so on), else
    those that every tool of Alibaba Cloud finds, and the GUARD_* settings. In other accounts than
    your own it takes the member role; one that it cannot enter is reported.

    It exits with 0 if everything that it checked is encrypted or exempt; with 1 if anything is
    unencrypted, or if the output could not be written; with 2 if an option, a setting or the
    credentials are wrong; with 3 if nothing is known to be unencrypted, but something could not be
    checked; with 130 if it was stopped.
    """
    rows = RowFilter(states, only_problems, sort, limit)
    outputs, choice = Outputs(output, html_path, folder, rows), Choice(organization, account_ids)
    if glob and (html_path or folder or old_path):
        misuse("A report covers every bucket: leave out --bucket, or --html, --report, --compare.")
    outputs.check()
    choice.check()
    try:
        old = read_report(old_path) if old_path else None
        audit = {"GUARD_AUDIT_TABLES": "true" if tables else None, "GUARD_MEMBER_ROLE": role}
        settings = Settings.from_environment(overrides=audit)
        if role and not choice.apply(settings).accounts:
            misuse(
                "--role is the role in other accounts: pass --organization or --account, too, or"
                " set GUARD_ACCOUNTS."
            )
        chosen = choose_regions(regions, all_regions=all_regions, settings=settings)
        with open_command(settings, seconds=math.inf) as invocation:
            invocation.read_credentials()  # without credentials, fail once and not for each bucket
            conditions, accounts = _conditions(
                invocation, chosen, choice, outputs, apply=apply, as_deployed=as_deployed
            )
            conditions = replace(conditions, glob=glob)
            invocation = invocation._replace(settings=conditions.settings)
            scopes = [Scope(each, region) for each in accounts.account_ids for region in chosen]
            totals = Totals.empty(scopes)
            command = SweepCommand(
                *(invocation, totals, outputs, conditions, old),
                *(accounts.enter, accounts.problems),
            )
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
    choice: Choice,
    outputs: Outputs,
    *,
    apply: bool,
    as_deployed: bool,
) -> tuple[Conditions, ChosenAccounts]:
    """Return when, by whom and with which settings the sweep runs, and in which accounts.

    Say this before the sweep encrypts.
    """
    origin: Origin
    find = functools.cache(functools.partial(find_caller, invocation))
    settings, origin = invocation.settings, "shell"
    if as_deployed:
        account_id = settings.account_id or own_account(find)
        settings, origin = read_deployed(invocation, regions, account_id), "deployed"
    accounts = choose_accounts(invocation._replace(settings=settings), choice, find)
    is_kept = apply or as_deployed or outputs.is_evidence
    caller, no_caller = find() if is_kept else (None, "not asked")
    if apply:
        say_who_acts(invocation, (caller, no_caller), where=accounts.phrase)
    conditions = Conditions(
        started_at=invocation.clock.now(),
        settings=accounts.settings,
        applied=apply,
        caller=caller,
        no_caller=None if caller else no_caller,
        exemptions_from=origin,
        member_role=accounts.settings.member_role if accounts.others else None,
    )
    _say_exemptions(conditions)
    return conditions, accounts


def _say_exemptions(conditions: Conditions) -> None:
    # The deployed function may skip buckets that this shell knows nothing of.
    count = pluralize(len(conditions.exemptions), "exemption")
    where = "the deployed function" if conditions.exemptions_from == "deployed" else "your shell"
    note(f"{count}, from {where}.")
    settings = conditions.settings
    for sentence in (
        *settings.exemption_errors,
        *exemption_warnings(settings, today=conditions.started_at.date()),
    ):
        say(sentence)
