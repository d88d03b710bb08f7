"""Log one JSON line for each outcome."""

from __future__ import annotations

import functools
import json
import sys
from datetime import date
from typing import IO, TYPE_CHECKING, Any

from encryption_guard.enforcement import LOGGED_FIELDS, DeadLettered, KeptUnknown, Outcome, Skipped
from encryption_guard.errors import GuardError
from encryption_guard.settings import LogSettings
from encryption_guard.version import __version__

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

SERVICE = "oss-tables-encryption-guard"


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


def log_outcome(result: Outcome | Exception, *, logger: Logger) -> None:
    """Log the result of one event."""
    match result:
        case DeadLettered():
            logger.warning("event dead-lettered", extra=result.as_dict())
        case KeptUnknown():
            logger.warning("unknown encryption kept", extra=result.as_dict())
        case Skipped(exempt_until=date() as last_day):
            line = {**result.as_dict(), "exempt_until": last_day.isoformat()}
            logger.info("event processed", extra=line)
        case Outcome():
            logger.info("event processed", extra=result.as_dict())
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
