"""What the sweep function has logged: when its last full sweep ended, and what it left out.

The vendor's client (`aliyun-log-python-sdk`) only signs the request. It would repeat each failed
request ten times, a second apart, with a time-out of two minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, TypeVar

import httpx

from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.http import Answer, new_request
from encryption_guard.http.retries import Attempts, Limits, Session, is_retryable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import canonical_query
from encryption_guard.untrusted import (
    as_text,
    loads,
    object_or_empty,
    quoted,
    shortened,
    strings,
)

T = TypeVar("T")

# The line that the sweep function logs at the end of a full sweep.
QUERY: Final = '"sweep finished" and functionName: oss-tables-encryption-sweep'
SECONDS: Final = 24 * 60 * 60
# The lines about accounts, which each call of the timer repeats until somebody corrects them.
LEFT_OUT: Final = ("not_prepared", "directory_unreadable", "directory_incomplete")
LEFT_OUT_QUERY: Final = (
    'message.message: "sweep finding" and functionName: oss-tables-encryption-sweep and ('
    + " or ".join(f"message.reason: {reason}" for reason in LEFT_OUT)
    + ")"
)
# As old as a sweep may be. The service returns at most so many lines, the newest first.
LOOKBACK: Final = 10 * 60
MAX_LINES: Final = 100
# Within this time each share was swept: the timer starts all of them each minute.
SHARES_SECONDS: Final = timedelta(minutes=2)
API_VERSION: Final = "0.6.0"


class LastSweep(NamedTuple):
    """When a sweep ended, and whether it found everything encrypted or exempt.

    If accounts are swept in shares, `ok` is about the last sweep of each account, and `account_ids`
    are those that were swept lately; empty if that is not known.
    """

    at: datetime
    ok: bool
    account_ids: frozenset[str] = frozenset()


class LeftOut(NamedTuple):
    """A line about an account that was not entered, or about the list of accounts."""

    account_id: str
    reason: str
    detail: str


def read_last_sweep(
    invocation: Invocation, function: Mapping[str, Any], region: str
) -> LastSweep | None:
    """Return the last full sweep of the last day; None if there was none.

    The function's `logConfig` names the log store. Raises ConfigurationError or Unavailable if the
    log cannot be read.
    https://www.alibabacloud.com/help/en/sls/developer-reference/api-sls-2020-12-30-getlogs
    """
    return _query(
        invocation,
        function,
        region,
        {"query": QUERY, "line": str(MAX_LINES)},
        SECONDS,
        lambda rows: _read(list(map(_Line.of, rows))) if rows else None,
    )


def read_left_out(
    invocation: Invocation, function: Mapping[str, Any], region: str
) -> tuple[LeftOut, ...]:
    """Return what the sweeps of the last minutes said about accounts: the newest hundred lines.

    Raises what `read_last_sweep` raises.
    """
    return _query(
        invocation,
        function,
        region,
        {"query": LEFT_OUT_QUERY, "line": str(MAX_LINES)},
        LOOKBACK,
        lambda rows: tuple(map(_read_left_out, rows)),
    )


def _query(
    invocation: Invocation,
    function: Mapping[str, Any],
    region: str,
    asked: Mapping[str, str],
    seconds: int,
    read: Callable[[list[Mapping[str, Any]]], T],
) -> T:
    """Query the function's log store, and return what `read` makes of the rows."""
    config = object_or_empty(function.get("logConfig"))
    project, store = (next(strings(config, name), "") for name in ("project", "logstore"))
    if not project or not store:
        raise ConfigurationError("The function writes no log: run `make deploy` again.")
    answer = _send(invocation, region, project, store, asked, seconds)
    if answer.status != 200:
        raise _explain(answer, project)
    try:
        return read(loads(answer.body))
    except (ValueError, LookupError, TypeError):
        raise Unavailable(f"The log project {project} gave an unreadable answer.") from None


class _Line(NamedTuple):
    """The end of a sweep, as it was logged; only a share names its accounts."""

    at: datetime
    ok: bool
    account_ids: frozenset[str]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Line:
        line = object_or_empty(row.get("message"))
        at = datetime.fromtimestamp(int(row["__time__"]), timezone.utc)
        listed = line.get("accounts")
        accounts = map(str, listed) if isinstance(listed, list) else ()
        return cls(at, line.get("ok") is True, frozenset(accounts))


def _read(lines: Sequence[_Line]) -> LastSweep:
    """Read the newest line, and if it is of a share those of the others; the newest come first."""
    newest = lines[0]
    if not newest.account_ids:
        return LastSweep(newest.at, newest.ok)
    recent = [each for each in lines if newest.at - each.at <= timedelta(seconds=LOOKBACK)]
    swept: set[str] = set()
    ok = True
    for line in recent:
        # What an account had in an earlier sweep may have been corrected since.
        if line.account_ids - swept:
            ok = ok and line.ok
            swept |= line.account_ids
    # With very many shares the answer ends before all of them were named.
    is_whole = len(lines) < MAX_LINES or newest.at - lines[-1].at >= SHARES_SECONDS
    return LastSweep(newest.at, ok, frozenset(swept) if is_whole else frozenset())


def _read_left_out(row: Mapping[str, Any]) -> LeftOut:
    line = object_or_empty(row["message"])
    names = ("account", "reason", "detail")
    return LeftOut(*(shortened(as_text(line.get(name)) or "") for name in names))


def _send(
    invocation: Invocation,
    region: str,
    project: str,
    store: str,
    asked: Mapping[str, str],
    seconds: int,
) -> Answer:
    now = int(invocation.clock.now().timestamp())
    parameters = {
        "type": "log",
        "from": str(now - seconds),
        "to": str(now),
        "reverse": "true",
        **asked,
    }
    session, until = Session(invocation), invocation.budget.request_deadline()
    limits = Limits(until, invocation.settings.max_attempts)
    attempts = Attempts(limits, session, invocation.clock)
    base = invocation.settings.log_endpoint or f"https://{project}.{region}.log.aliyuncs.com"
    for attempt in attempts:
        with attempt:
            answer = attempt.send(
                invocation.transport,
                _signed(session, base, f"/logstores/{store}", parameters, region),
                until=invocation.attempt_deadline(until),
            )
            if not is_retryable(answer.status):
                return answer
    if attempts.failure.answer:
        return attempts.failure.answer
    raise Unavailable(f"The log project {project} gave no answer: check the region and network.")


def _signed(
    session: Session, base: str, path: str, parameters: dict[str, str], region: str
) -> httpx.Request:
    """Return the request with the signature of the vendor's client."""
    # The client is slow to import, and only this command needs it.
    from aliyun.log.auth import AUTH_VERSION_4, make_auth
    from aliyun.log.credentials import StaticCredentialsProvider

    # Its own lines would be printed on standard error.
    logging.getLogger("aliyun.log").addHandler(logging.NullHandler())
    given = session.credentials
    provider = StaticCredentialsProvider(
        given.access_key_id, given.access_key_secret, given.security_token or ""
    )
    request = new_request("GET", f"{base}{path}?{canonical_query(parameters)}", headers={})
    headers = {
        "host": request.headers["host"],
        "x-log-apiversion": API_VERSION,
        "x-log-bodyrawsize": "0",
    }
    signer: Any = make_auth(provider, AUTH_VERSION_4, region)  # type: ignore[no-untyped-call]
    signer.sign_request("GET", path, parameters, headers, None)
    request.headers.update(headers)
    return request


def _explain(answer: Answer, project: str) -> ConfigurationError | Unavailable:
    code = quoted(next(strings(object_or_empty(answer.body), "errorcode"), ""))[1:-1]
    sentence = f"The log project {project} answered {answer.status} {code}".rstrip()
    if is_retryable(answer.status):
        return Unavailable(f"{sentence}; a later try may succeed.")
    return ConfigurationError(
        f"{sentence}; check the right log:GetLogStoreLogs on its log store, and the project."
    )
