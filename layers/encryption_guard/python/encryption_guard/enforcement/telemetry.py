"""One outcome, one log line."""

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

    # A sweep's own; the creation function does without.

SERVICE = "oss-tables-encryption-guard"


@functools.cache
def open_logger(stream: IO[str] | None = None) -> Logger:
    """The one logger of a process; writes JSON lines to standard output unless told otherwise.

    Its first line names the variables of the log that are wrong; without them it is at level INFO.
    """
    settings = LogSettings.from_environment()
    # Not before: it raises for a wrong POWERTOOLS_DEBUG when it is imported.
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
    # Powertools leaves out what is None, but an outcome's line always has the same keys.
    if "outcome" in line:
        line = line | {name: line.get(name) for name in LOGGED_FIELDS}
    return json.dumps(line, default=str, separators=(",", ":"))


def log_outcome(result: Outcome | Exception, *, logger: Logger) -> None:
    """Write the line of one event's result."""
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
