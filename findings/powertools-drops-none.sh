#!/usr/bin/env bash
# Expected: the log line holds every key that is logged: None is `null` in JSON.
# Happens:  the Logger drops a key whose value is None. It keeps 0, "" and a None one level down. So
#           a search for "owner is null" finds nothing.
# Version:  aws-lambda-powertools 3.37.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'aws-lambda-powertools==3.37.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'EOF'
import io
import json
import sys
from importlib.metadata import version

from aws_lambda_powertools import Logger

stream = io.StringIO()
logger = Logger(service="shop", level="INFO", stream=stream)
logger.append_keys(region=None)
logger.info("sold", owner=None, count=0, note="", order={"owner": None})
line = json.loads(stream.getvalue())

print(f"aws-lambda-powertools {version('aws-lambda-powertools')}")
print("logged:     region=None, owner=None, count=0, note='', order={'owner': None}")
print(f"in the line: {json.dumps({key: line[key] for key in line if key not in ('location', 'timestamp')})}")

if "owner" in line or "region" in line:
    sys.exit("changed: a key whose value is None is in the line")
if (line["count"], line["note"], line["order"]) != (0, "", {"owner": None}):
    sys.exit("changed: other empty values are not in the line as they were given")
EOF
