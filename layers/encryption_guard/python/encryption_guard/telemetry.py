"""One outcome, one log line."""

from __future__ import annotations

import functools
import json
import logging
import sys
from dataclasses import fields
from typing import IO, Any

from aws_lambda_powertools import Logger

from encryption_guard.enforcement import DeadLettered, Outcome
from encryption_guard.errors import GuardError

SERVICE = "oss-tables-encryption-guard"


@functools.cache
def open_logger(stream: IO[str] | None = None) -> Logger:
    """The one logger of a process; writes JSON lines to standard output unless told otherwise."""
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return Logger(
        service=SERVICE,
        stream=stream or sys.stdout,
        utc=True,
        use_rfc3339=True,
        json_serializer=_serialize,
    )


def _serialize(line: dict[str, Any]) -> str:
    # Powertools leaves out what is None, but an outcome's line always has the same keys.
    if "outcome" in line:
        line = line | {field.name: line.get(field.name) for field in fields(Outcome)}
    return json.dumps(line, default=str, separators=(",", ":"))


def report(result: Outcome | Exception, *, logger: Logger) -> None:
    """Write the line of one event's result."""
    match result:
        case DeadLettered():
            logger.warning("event dead-lettered", extra=result.as_dict())
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
