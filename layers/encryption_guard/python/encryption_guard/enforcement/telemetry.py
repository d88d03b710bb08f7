"""Log one JSON line for each outcome."""

from __future__ import annotations

import functools
import json
import sys
from typing import IO, TYPE_CHECKING, Any

from encryption_guard.enforcement import (
    LOGGED_FIELDS,
    DeadLettered,
    KeptUnknown,
    Outcome,
    Skipped,
    needs_table_audit,
)
from encryption_guard.errors import GuardError
from encryption_guard.settings import LogSettings
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

SERVICE = "oss-tables-encryption-guard"
TABLES_NOT_CHECKED = (
    "Nobody has checked the tables of the bucket: GUARD_AUDIT_TABLES is false. A table that was"
    " created while the bucket was unencrypted stays so for good."
)


@functools.cache
def open_logger(stream: IO[str] | None = None) -> Logger:
    """Return the logger of this process, which writes JSON lines to `stream`, by default stdout.

    If log settings are wrong, the first line names them, and the logger ignores them. The default
    level is INFO.
    """
    settings = LogSettings.from_environment()
    # This import raises for a wrong POWERTOOLS_DEBUG, which LogSettings has removed by now.
    from aws_lambda_powertools import Logger

    logger = Logger(
        service=SERVICE,
        level=settings.level,
        stream=stream or sys.stdout,
        utc=True,
        use_rfc3339=True,
        json_serializer=_serialize,
        version=__version__,
    )
    if settings.errors:
        logger.warning("log setting ignored", detail=" ".join(settings.errors))
    return logger


def _serialize(line: dict[str, Any]) -> str:
    # Powertools omits a field that is None, but the line of an outcome always has all keys.
    if "outcome" in line:
        line = line | {name: line.get(name) for name in LOGGED_FIELDS}
    return json.dumps(line, default=str, separators=(",", ":"))


def log_outcome(result: Outcome | Exception, *, logger: Logger, audits_tables: bool = True) -> None:
    """Log the result of one event; without an audit, say that nobody has checked the tables."""
    match result:
        case Outcome():
            line: dict[str, Any] = result.as_dict()
            if result.exempt_until:
                line["exempt_until"] = result.exempt_until.isoformat()
            if needs_table_audit(result) and not audits_tables:
                line["detail"] = TABLES_NOT_CHECKED
            if result.advice:
                line["detail"] = result.advice
            _log_outcome(result, line, logger)
        case GuardError():
            logger.warning(
                "event unfinished",
                error=type(result).__name__,
                fault=result.fault,
                retryable=result.retryable,
                detail=str(result),
            )
        case _:
            logger.error("event failed", exc_info=result)


def _log_outcome(outcome: Outcome, line: dict[str, Any], logger: Logger) -> None:
    match outcome:
        case Skipped(reason="not_prepared"):
            logger.warning("account not prepared", extra=line)
        case Skipped():
            logger.info("event processed", extra=line)
        # A person did this, on purpose or not: an alarm searches for these words.
        case Outcome(cause="drift"):
            logger.warning("encryption removed", extra=line)
        case DeadLettered():
            logger.warning("event dead-lettered", extra=line)
        case KeptUnknown():
            logger.warning("unknown encryption kept", extra=line)
        case _:
            logger.info("event processed", extra=line)
