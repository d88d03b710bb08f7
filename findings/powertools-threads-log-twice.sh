#!/usr/bin/env bash
# Expected: threads that create a Logger of the same service at the same time log each line once.
# Happens:  the Logger looks whether its service is set up before it adds its handler, without a
#           lock: now and then several threads add one, and each later line is logged as many times.
#           Now and then the constructor raises AttributeError.
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
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from threading import Barrier

from aws_lambda_powertools import Logger

THREADS, SERVICES = 4, 3000
# Python switches threads as often as it can: the same happens without this, but rarely.
sys.setswitchinterval(1e-6)


def open_logger(service: str, stream: io.StringIO, ready: Barrier) -> type[Exception] | None:
    ready.wait()
    try:
        Logger(service=service, level="INFO", stream=stream)
    except AttributeError as error:
        return type(error)
    return None


lines, errors = Counter(), Counter()
with ThreadPoolExecutor(THREADS) as pool:
    for number in range(SERVICES):
        service, stream, ready = f"shop-{number}", io.StringIO(), Barrier(THREADS)
        opened = [pool.submit(open_logger, service, stream, ready) for _ in range(THREADS)]
        errors.update(each.result().__name__ for each in opened if each.result())
        Logger(service=service, level="INFO", stream=stream).info("sold")
        lines[len(stream.getvalue().splitlines())] += 1

print(f"aws-lambda-powertools {version('aws-lambda-powertools')}")
print(f"{SERVICES} services, the Logger of each created by {THREADS} threads at once; then one line logged:")
for count in sorted(lines):
    print(f"  in the log {count} times: {lines[count]} services")
print(f"errors of the constructor: {dict(errors)}")

if set(lines) == {1}:
    sys.exit("changed: each line is logged once")
EOF
