#!/usr/bin/env bash
# Expected: an empty LOG_LEVEL counts as not set, like an empty POWERTOOLS_LOG_LEVEL beside a
#           LOG_LEVEL: the level is INFO.
# Happens:  the Logger raises `Unknown level: ''`. An empty POWERTOOLS_DEV raises too; an empty
#           POWERTOOLS_LOGGER_SAMPLE_RATE does not.
# Version:  aws-lambda-powertools 3.37.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'aws-lambda-powertools==3.37.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'PROGRAM'
import logging
import os
import sys
from importlib.metadata import version

for name in [name for name in os.environ if name.startswith(("POWERTOOLS_", "LOG_LEVEL", "AWS_"))]:
    del os.environ[name]

from aws_lambda_powertools import Logger


def outcome(service: str, **variables: str) -> str:
    """The level of a Logger that is made under these variables, or what it raises."""
    os.environ.update(variables)
    try:
        return logging.getLevelName(Logger(service=service).log_level)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        for name in variables:
            del os.environ[name]


print(f"aws-lambda-powertools {version('aws-lambda-powertools')}")
seen = {
    "nothing set": outcome("a"),
    "LOG_LEVEL=''": outcome("b", LOG_LEVEL=""),
    "POWERTOOLS_LOG_LEVEL='' LOG_LEVEL=ERROR": outcome("c", POWERTOOLS_LOG_LEVEL="", LOG_LEVEL="ERROR"),
    "POWERTOOLS_DEV=''": outcome("d", POWERTOOLS_DEV=""),
    "POWERTOOLS_LOGGER_SAMPLE_RATE=''": outcome("e", POWERTOOLS_LOGGER_SAMPLE_RATE=""),
}
for given, level in seen.items():
    print(f"{given + ':':42} {level}")

if not seen["LOG_LEVEL=''"].startswith("ValueError: Unknown level"):
    sys.exit("changed: an empty LOG_LEVEL is no error")
if not seen["POWERTOOLS_DEV=''"].startswith("ValueError"):
    sys.exit("changed: an empty POWERTOOLS_DEV is no error")
if [level for level in seen.values() if not level.startswith("ValueError")] != ["INFO", "ERROR", "INFO"]:
    sys.exit("changed: the others are not INFO, ERROR and INFO")
PROGRAM
