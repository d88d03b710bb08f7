#!/usr/bin/env bash
# Expected: an answer in the error format of OSS Tables (x-oss-error-type, and a JSON message)
#           raises an error, whatever its status.
# Happens:  if the status is 200, the PUT of an encryption returns a result: the client checks only
#           the status, and that the body is JSON.
# Version:  alibabacloud-oss-v2 1.4.1
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'alibabacloud-oss-v2==1.4.1' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'PROGRAM'
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import tables

BODY = b'{"message": "An internal error occurred."}'


class Service(BaseHTTPRequestHandler):
    status = 200

    def do_PUT(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.send_header("x-oss-request-id", "0123456789ABCDEF01234567")
        self.send_header("x-oss-error-type", "InternalError")
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


def outcome(status: int) -> str:
    """What the client makes of the same answer with this status."""
    Service.status = status
    try:
        result = client.put_table_bucket_encryption(request)
    except oss.exceptions.OperationError as error:
        return type(error.unwrap()).__name__
    return f"a result, status_code {result.status_code}"


server = HTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
config = oss.config.load_default()
config.region, config.endpoint = "cn-hangzhou", f"http://127.0.0.1:{server.server_port}"
config.retry_max_attempts = 1
config.credentials_provider = oss.credentials.StaticCredentialsProvider("made-up-id", "made-up-key")
client = tables.Client(config)
request = tables.models.PutTableBucketEncryptionRequest(
    table_bucket_arn="acs:osstables:cn-hangzhou:1234567890123456:bucket/orders",
    encryption_configuration=tables.models.EncryptionConfiguration(sse_algorithm="AES256"),
)
print(f"alibabacloud-oss-v2 {version('alibabacloud-oss-v2')}")
seen = {status: outcome(status) for status in (200, 403)}
for status, what in seen.items():
    print(f"x-oss-error-type with {status}: {what}")
server.shutdown()

if seen[403] != "ServiceError":
    sys.exit("changed: the same answer with 403 is no ServiceError")
if seen[200] != "a result, status_code 200":
    sys.exit("changed: an error with the status 200 is no result any more")
PROGRAM
