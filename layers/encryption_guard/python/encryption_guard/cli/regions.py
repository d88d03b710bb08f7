"""The options that choose regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from encryption_guard.arn import is_region
from encryption_guard.cli.console import misuse
from encryption_guard.services.inventory import REGIONS
from encryption_guard.settings import Settings

Command = Callable[..., Any]


def _split(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    regions = [region.strip() for each in given for region in each.split(",")]
    for region in regions:
        if not is_region(region):
            raise click.BadParameter(f"{region!r} is not a region ID, such as cn-hangzhou.")
    return tuple(dict.fromkeys(regions))


def _complete(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    """Complete the last region of a list."""
    before, comma, last = typed.rpartition(",")
    return [f"{before}{comma}{region}" for region in REGIONS if region.startswith(last)]


def region_options(verb: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --region and --all-regions, with this verb in their help."""
    one = click.option(
        "--region",
        "regions",
        metavar="ID[,ID]",
        multiple=True,
        callback=_split,
        shell_complete=_complete,
        help=f"{verb} this region, for example cn-hangzhou; repeat the option for more regions."
        " Default: GUARD_SWEEP_REGIONS, or else FC_REGION.",
    )
    every = click.option(
        "--all-regions", is_flag=True, help=f"{verb} every region that offers OSS Tables."
    )
    return lambda command: one(every(command))


def choose_regions(
    regions: tuple[str, ...], *, all_regions: bool, settings: Settings
) -> tuple[str, ...]:
    """Return the regions to ask about; exit if the options contradict or name none."""
    if regions and all_regions:
        misuse("Use either --region or --all-regions, not both.")
    chosen = (REGIONS if all_regions else regions) or settings.sweep_regions
    chosen = chosen or ((settings.region,) if settings.region else ())
    if not chosen:
        misuse("No region: pass --region or --all-regions, or set GUARD_SWEEP_REGIONS.")
    return tuple(chosen)
