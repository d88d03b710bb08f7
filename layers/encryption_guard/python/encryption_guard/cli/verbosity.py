"""`--quiet` and `--debug`: how much a command prints on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

# The places of the flags in click's context, which subcommands share: nothing has to pass them on.
_QUIET: Final = "encryption_guard.quiet"
_DEBUG: Final = "encryption_guard.debug"


def is_quiet() -> bool:
    """Return whether the command prints only results and problems."""
    return _is_set(_QUIET)


def is_debug() -> bool:
    """Return whether the command prints each of its requests."""
    return _is_set(_DEBUG)


def _is_set(flag: str) -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(flag))


def _remember(flag: str, other: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given and context.meta.get(other):
            raise click.UsageError("Pass either --quiet or --debug.")
        if given:
            context.meta[flag] = True

    return remember


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--quiet` and `--debug` to a command."""
    quiet = click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember(_QUIET, _DEBUG),
        help="Print no progress and no notes: only results, problems and who acts.",
    )
    debug = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_remember(_DEBUG, _QUIET),
        help="Also print each request with its time, status and request ID; no secret is printed.",
    )
    return quiet(debug(command))
