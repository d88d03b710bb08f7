"""The log service as far as a log is read: GetLogs of the newest lines.

https://www.alibabacloud.com/help/en/sls/developer-reference/api-sls-2020-12-30-getlogs
The signature is checked with the vendor's own signer (`aliyun-log-python-sdk` 0.9.52).
"""

from __future__ import annotations

import hmac
import json
import re
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aliyun.log.auth import AuthV4
from aliyun.log.credentials import StaticCredentialsProvider

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import Call, EmulatedService, refuse
from tests.emulators.faults import Faults, Refuse
from tests.emulators.server import Authority
from tests.emulators.wire import Answer, Request

PATH = re.compile(r"/logstores/(?P<store>[^/]+)")
LARGEST_SKEW = timedelta(minutes=15)
TIME = "%Y%m%dT%H%M%SZ"
MOST_LINES = 100
QUERY = re.compile(
    r'(?:message\.message: )?"(?P<phrase>[^"]+)" and functionName: (?P<function>\S+)'
    r"(?: and \((?P<reasons>message\.reason: \w+(?: or message\.reason: \w+)*)\))?"
)


@dataclass(frozen=True)
class Row:
    """A line of a function's log."""

    at: float
    function: str
    message: str


class LogService(EmulatedService):
    """One log store, `guard`, whose lines are `rows`."""

    server_name = "AliyunSLS"
    request_id_header = "x-log-requestid"

    def __init__(
        self,
        *access_keys: AccessKey,
        region: str = "cn-hangzhou",
        authority: Authority | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(*access_keys, authority=authority, faults=faults)
        self.rows: list[Row] = []
        self._region = region

    def log(self, function: str, line: dict[str, Any], *, at: float | None = None) -> None:
        """Let a function have written this line."""
        self.rows.append(Row(time.time() if at is None else at, function, json.dumps(line)))

    def new_request_id(self) -> str:
        return uuid.uuid4().hex[:24].upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        match = PATH.fullmatch(request.path)
        is_read = match and request.method == "GET" and request.parameters.get("type") == "log"
        return ("GetLogs", match["store"]) if match and is_read else (None, None)

    def perform(self, call: Call) -> Answer:
        if call.operation is None:
            raise refuse(400, "InvalidParameter", "This is not emulated.")
        key = self._authenticate(call)
        project = "oss-tables-encryption-guard-p"
        place = (
            f"acs:log:{self._region}:{key.account_id}:project/{project}/logstore/{call.resource}"
        )
        if not self.rights.allow(key, "log:GetLogStoreLogs", place):
            raise refuse(403, "Unauthorized", "denied by sts or ram")
        if call.resource != "guard":
            raise refuse(404, "LogStoreNotExist", f"logstore {call.resource} does not exist")
        rows = self._found(call.request.parameters)
        body = [{"__time__": str(int(row.at)), "message": row.message} for row in rows]
        headers = {"Content-Type": "application/json", "x-log-progress": "Complete"}
        return Answer(200, headers, json.dumps(body).encode())

    def refused(self, refusal: Refuse, _: Call, /) -> Answer:
        code = refusal.code or {403: "Unauthorized"}.get(refusal.status, "InternalServerError")
        fields = {"errorCode": code, "errorMessage": refusal.message}
        return Answer(refusal.status, {}, json.dumps(fields).encode())

    def _found(self, asked: dict[str, str]) -> list[Row]:
        match = QUERY.fullmatch(asked["query"])
        if match is None:
            raise refuse(400, "ParameterInvalid", f"the query {asked['query']} is not emulated")
        if not 1 <= int(asked.get("line", "100")) <= MOST_LINES:
            raise refuse(400, "ParameterInvalid", f"line has to be 1 to {MOST_LINES}")
        reasons = set(re.findall(r"reason: (\w+)", match["reasons"] or ""))
        found = [
            row
            for row in self.rows
            if int(asked["from"]) <= row.at <= int(asked["to"]) + 1
            and match["phrase"] in row.message
            and row.function == match["function"]
            and (not reasons or json.loads(row.message).get("reason") in reasons)
        ]
        found.sort(key=lambda row: row.at, reverse=asked.get("reverse") == "true")
        return found[: int(asked.get("line", "100"))]

    def _authenticate(self, call: Call) -> AccessKey:
        """The key that signed the request."""
        headers = dict(call.request.headers)
        given = headers.pop("authorization", "")
        key = self.keys.get(given.partition("Credential=")[2].partition("/")[0])
        if key is None:
            raise refuse(401, "Unauthorized", "AccessKeyId not found")
        if headers.pop("x-acs-security-token", None) != key.security_token:
            raise refuse(401, "SecurityTokenInvalid", "The security token is invalid.")
        at = headers["x-log-date"]
        provider = StaticCredentialsProvider(key.id, key.secret, key.security_token or "")
        signer: Any = AuthV4(provider, self._region)  # type: ignore[no-untyped-call]
        expected: str = signer._do_sign_request(
            "GET", call.request.path, call.request.parameters, headers, None, at
        )
        if not hmac.compare_digest(expected, given):
            raise refuse(401, "SignatureNotMatch", "signature does not match")
        return key
