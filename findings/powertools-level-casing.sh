#!/usr/bin/env bash
# Expected: POWERTOOLS_LOG_LEVEL accepts any casing: `debug` alone gives DEBUG.
# Happens:  beside AWS_LAMBDA_LOG_LEVEL=INFO, which Lambda sets if its log level is configured,
#           `DEBUG` gives INFO with a warning, and `debug` raises TypeError: the Logger compares a
#           number with the text "Level debug".
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
import warnings
from importlib.metadata import version

for name in [name for name in os.environ if name.startswith(("POWERTOOLS_", "LOG_LEVEL", "AWS_"))]:
    del os.environ[name]
warnings.simplefilter("ignore")

from aws_lambda_powertools import Logger


def outcome(service: str, own: str, of_lambda: str | None) -> str:
    """The level of a Logger that is made under these variables, or what it raises."""
    os.environ["POWERTOOLS_LOG_LEVEL"] = own
    if of_lambda:
        os.environ["AWS_LAMBDA_LOG_LEVEL"] = of_lambda
    try:
        return logging.getLevelName(Logger(service=service).log_level)
    except TypeError as error:
        return f"{type(error).__name__}: {error}"


print(f"aws-lambda-powertools {version('aws-lambda-powertools')}")
seen = [
    (own, of_lambda, outcome(f"service-{number}", own, of_lambda))
    for number, (own, of_lambda) in enumerate(
        [("DEBUG", None), ("debug", None), ("DEBUG", "INFO"), ("debug", "INFO")]
    )
]
for own, of_lambda, level in seen:
    beside = f" AWS_LAMBDA_LOG_LEVEL={of_lambda}" if of_lambda else ""
    print(f"POWERTOOLS_LOG_LEVEL={own}{beside}: {level}")

if [level for *_, level in seen[:3]] != ["DEBUG", "DEBUG", "INFO"]:
    sys.exit("changed: the first three are not DEBUG, DEBUG and INFO")
if not seen[3][2].startswith("TypeError"):
    sys.exit("changed: in lower case it is no error beside AWS_LAMBDA_LOG_LEVEL")
PROGRAM
