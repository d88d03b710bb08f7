"""When the last full sweep of a function ended, by its log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.untrusted import object_or_empty, quoted, strings

# The line that the sweep function logs at the end of a full sweep.
QUERY: Final = '"sweep finished" and functionName: oss-tables-encryption-sweep'
SECONDS: Final = 24 * 60 * 60
REQUEST_SECONDS: Final = 10


class LastSweep(NamedTuple):
    """When a sweep ended, and whether it found everything encrypted or exempt."""

    at: datetime
    ok: bool


def read_last_sweep(
    invocation: Invocation, function: Mapping[str, Any], region: str
) -> LastSweep | None:
    """Return the last full sweep of the last day; None if there was none.

    The function's `logConfig` names the log store. Raises ConfigurationError or Unavailable if the
    log cannot be read.
    """
    try:
        from aliyun.log import LogClient, LogException
    except ImportError:
        raise ConfigurationError(
            "The last sweep is not known: install `encryption-guard[log]`, which reads the log."
        ) from None
    _silence_client()
    config = object_or_empty(function.get("logConfig"))
    project, store = (next(strings(config, name), "") for name in ("project", "logstore"))
    credentials, now = invocation.read_credentials(), int(invocation.clock.now().timestamp())
    endpoint = invocation.settings.log_endpoint or f"https://{region}.log.aliyuncs.com"
    client = LogClient(
        endpoint,
        credentials.access_key_id,
        credentials.access_key_secret,
        credentials.security_token,
    )
    client.timeout = REQUEST_SECONDS
    try:
        found = client.get_log(
            project, store, now - SECONDS, now, query=QUERY, reverse=True, size=1
        ).get_logs()
    except LogException as error:
        raise _explain(error, project) from None
    return _read(found[0].get_time(), found[0].get_contents()) if found else None


def _read(at: int, contents: Mapping[str, str]) -> LastSweep:
    line = object_or_empty(contents.get("message"))
    return LastSweep(datetime.fromtimestamp(at, timezone.utc), line.get("ok") is True)


def _explain(error: Any, project: str) -> ConfigurationError | Unavailable:
    code = quoted(str(error.get_error_code()))[1:-1]
    if error.get_resp_status() in (401, 403):
        return ConfigurationError(
            f"The log project {project} refused the question ({code}): check the right"
            " log:GetLogStoreLogs on its log store."
        )
    if error.get_resp_status() == 404:
        return ConfigurationError(
            f"The log project {project} or its log store is missing ({code})."
        )
    return Unavailable(
        f"The log project {project} gave no answer ({code}): a later try may succeed."
    )


def _silence_client() -> None:
    """Keep the client's own log lines off standard error."""
    for name in ("aliyun", "aliyun.log"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
