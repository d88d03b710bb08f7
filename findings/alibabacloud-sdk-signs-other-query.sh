#!/usr/bin/env bash
# Expected: the query that the client signs is the one that it sends, octet by octet: the signature
#           covers the canonical query, in which a blank is `%20` (RFC 3986).
# Happens:  a blank in a parameter is signed as `%20` and sent as `+`. So a service that checks the
#           raw query refuses it; it has to decode the query as a form first, and encode it again.
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
import hashlib
import hmac
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qsl, quote, urlsplit

from alibabacloud_sts20150401.client import Client
from alibabacloud_sts20150401.models import AssumeRoleRequest
from alibabacloud_tea_openapi.models import Config

SECRET = "made-up-secret"
ANSWER = json.dumps({"RequestId": "1"}).encode()
seen: list[tuple[str, dict[str, str], bytes]] = []


class Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = Client(
    Config(
        access_key_id="made-up-id",
        access_key_secret=SECRET,
        endpoint=f"127.0.0.1:{server.server_port}",
        protocol="http",
    )
)
client.assume_role(
    AssumeRoleRequest(
        role_arn="acs:ram::1234567890123456:role/made-up",
        role_session_name="made-up",
        policy='{"Version": "1", "Statement": []}',
    )
)

(path, headers, body), = seen
query = urlsplit(path).query
signed = re.search(r"SignedHeaders=([^,]+),Signature=([0-9a-f]+)", headers["authorization"])
assert signed, headers["authorization"]
names, signature = signed[1].split(";"), signed[2]


def matches(canonical_query: str) -> bool:
    """Whether the signature is that of this query."""
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    digest = hashlib.sha256(body).hexdigest()
    request = "\n".join(["POST", "/", canonical_query, lines, ";".join(names), digest])
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(request.encode()).hexdigest()
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest() == signature


def canonical(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


raw = "&".join(sorted(query.split("&")))
decoded = canonical(sorted(parse_qsl(query, keep_blank_values=True)))
print(f"alibabacloud-tea-openapi {version('alibabacloud-tea-openapi')}")
print("sent:  ", next(part for part in query.split("&") if part.startswith("Policy=")))
print("signed:", next(part for part in decoded.split("&") if part.startswith("Policy=")))
print(f"the signature is that of the query as sent: {matches(raw)}")
print(f"the signature is that of the query decoded as a form: {matches(decoded)}")
if "+" not in query:
    sys.exit("changed: the client sends no plus sign for a blank")
if matches(raw) or not matches(decoded):
    sys.exit("changed: the signature is that of the query as sent, or of neither form")
EOF
