#!/usr/bin/env bash
# Expected: `RuntimeOptions(autoretry=True, max_attempts=3)` repeats a request that is answered 503.
# Happens:  the client sends one request. It accepts both options and uses neither. Only
#           `retry_options` in the client's configuration has an effect, and it is not set by
#           default.
# Version:  alibabacloud-sts20150401 1.2.0 (alibabacloud-tea-openapi 0.4.6, darabonba-core 1.0.9)
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'alibabacloud-sts20150401==1.2.0' 'alibabacloud-tea-openapi==0.4.6' 'darabonba-core==1.0.9' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

HOME=$folder NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$python" -I - <<'EOF'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from alibabacloud_sts20150401.client import Client
from alibabacloud_tea_openapi.models import Config
from darabonba.policy.retry import RetryOptions
from darabonba.runtime import RuntimeOptions

requests: list[str] = []
BUSY = json.dumps({"Code": "ServiceUnavailable", "Message": "busy", "RequestId": "1"}).encode()


class Busy(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        requests.append(self.path)
        self.send_response(503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BUSY)))
        self.end_headers()
        self.wfile.write(BUSY)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()
PLACE = {"endpoint": f"127.0.0.1:{server.server_port}", "protocol": "http"}
KEY = {"access_key_id": "made-up-id", "access_key_secret": "made-up-secret"}


def asked(runtime: RuntimeOptions, **config: object) -> int:
    """How many requests one call makes."""
    requests.clear()
    try:
        Client(Config(**KEY, **PLACE, **config)).get_caller_identity_with_options(runtime)
    except Exception as error:
        if getattr(error, "code", None) != "ServiceUnavailable":
            raise
    return len(requests)


print(f"alibabacloud-tea-openapi {version('alibabacloud-tea-openapi')}")
call = asked(RuntimeOptions(autoretry=True, max_attempts=3))
print(f"autoretry=True, max_attempts=3: {call} request(s)")
condition = {"errorCode": ["ServiceUnavailable"], "maxAttempts": 3}
client = asked(RuntimeOptions(), retry_options=RetryOptions({"retryCondition": [condition]}))
print(f"retry_options of the client:    {client} requests")

if call != 1:
    sys.exit("changed: the call's options make it repeat the request")
if client < 2:
    sys.exit("changed: the client's retry_options do not make it repeat the request")
EOF
