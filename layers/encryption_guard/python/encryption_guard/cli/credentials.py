"""The access key of a command: its source, its owner, and when it is read again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

import click

from encryption_guard.cli.console import say
from encryption_guard.cli.credential_sources import (
    SHELL,
    Source,
    choose,
    profile_names,
    unused_variables,
)
from encryption_guard.cli.request_log import say_start, with_request_log
from encryption_guard.credentials import Credentials
from encryption_guard.enforcement import handler
from encryption_guard.errors import ConfigurationError, GuardError
from encryption_guard.invocation import Invocation
from encryption_guard.services.sts import Caller, read_caller
from encryption_guard.settings import Settings

# A provider may send a request, or run a command, each time it is asked.
ASK_AGAIN_SECONDS: Final = 60.0
CALLER_SECONDS: Final = 3.0
# The place of the value of --profile in click's context: no command has to pass it on.
_PROFILE: Final = "encryption_guard.profile"


def _remember(context: click.Context, _: click.Parameter, name: str | None) -> None:
    if name == "":
        # Most likely a variable that is not set; without a profile, another key would act.
        raise click.BadParameter("the name is empty.")
    context.meta[_PROFILE] = name


def _profiles_starting_with(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    with suppress(ConfigurationError):
        return [name for name in profile_names(_home()) if name.startswith(typed)]
    return []


profile_option = click.option(
    "--profile",
    metavar="NAME",
    expose_value=False,
    callback=_remember,
    shell_complete=_profiles_starting_with,
    help="Use the credentials of this profile of ~/.aliyun/config.json. Default: those of your"
    " shell, else ALIBABA_CLOUD_PROFILE.",
)


class HeldKey:
    """The access key of one command, shared by its threads.

    It gets the key from `ask`, at most once a minute, and keeps the last one while that fails.
    After a service has refused a key it asks at once for a new one (`ask(True)`), but only once for
    each key.
    """

    def __init__(
        self,
        source: str,
        ask: Callable[[bool], Credentials],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._ask = ask
        self._monotonic = monotonic
        self._lock = Lock()
        self._key: Credentials | None = None
        self._refused: Credentials | None = None
        self._renew = False
        self._ask_at = -math.inf
        self._said: set[str] = set()

    def __call__(self) -> Credentials:
        """Return the key; raises ConfigurationError if there was never one."""
        # The other threads wait for the same answer.
        with self._lock:
            if self._key is None or self._monotonic() >= self._ask_at:
                self._key = self._next(self._key)
            return self._key

    def _next(self, last: Credentials | None) -> Credentials:
        renew, self._renew = self._renew, False
        try:
            return self._ask(renew)
        except ConfigurationError as error:
            if last is None:
                raise
            if str(error) not in self._said:
                self._said.add(str(error))
                say(f"{error} The last access key stays in use.")
            return last
        finally:
            self._ask_at = self._monotonic() + ASK_AGAIN_SECONDS

    def discard(self, refused: Credentials) -> None:
        """Ask for a new key at the next call, unless this one was discarded before."""
        with self._lock:
            if refused == self._key and refused != self._refused:
                self._refused, self._renew, self._ask_at = refused, True, -math.inf


@contextmanager
def open_command(settings: Settings, *, seconds: float) -> Iterator[Invocation]:
    """Yield an invocation with the credentials that the operator chose; close its connections.

    Raises ConfigurationError if they cannot be used, or if the proxy cannot.
    """
    context = click.get_current_context(silent=True)
    profile = context.meta.get(_PROFILE) if context else None
    source = choose(os.environ, _home(), profile=profile)
    for name in () if profile else unused_variables(os.environ, source):
        say(f"{name} has no effect: the access key is that of {source.name}.")
    say_start(source.name)
    with handler.open_command(settings, seconds=seconds) as invocation:
        key = None if source is SHELL else _open_key(source, invocation)
        invocation = with_request_log(invocation)
        if key:
            invocation = invocation._replace(read_credentials=key, discard_credentials=key.discard)
        yield invocation


def _open_key(source: Source, invocation: Invocation) -> HeldKey:
    # The vendor's library is slow to import.
    from encryption_guard.cli.vendor_credentials import VendorKey

    # The path of a credentials URI may be a secret.
    logged = with_request_log(invocation, with_path=False)
    return HeldKey(source.name, VendorKey(source, logged).read)


def _home() -> Path:
    # Path.home() raises an exception in a container without HOME and without a user.
    return Path(os.path.expanduser("~"))  # noqa: PTH111


def find_caller(invocation: Invocation) -> tuple[Caller | None, str]:
    """Return the identity that the credentials belong to, or None and why it is not known."""
    try:
        return read_caller(invocation.within(CALLER_SECONDS)), ""
    except GuardError as error:
        return None, str(error)


def say_who_acts(
    invocation: Invocation, found: tuple[Caller | None, str] | None = None, *, where: str = ""
) -> None:
    """Print account, caller and source of the access key, before a command changes anything.

    `found` is the result of `find_caller`, if it is known already, and `where` names the accounts,
    unless it is the caller's own. Raises ConfigurationError if there are no credentials.
    """
    reader = invocation.read_credentials
    key = reader().access_key_id[:4]
    source = reader.source if isinstance(reader, HeldKey) else SHELL.name
    caller, no_caller = found or find_caller(invocation)
    who = (
        f"{caller.arn} of account {caller.account_id}"
        if caller
        else f"an unknown caller ({no_caller.rstrip('.')})"
    )
    say(f"acting as {who}, with the access key {key}... of {source}{where}.")
