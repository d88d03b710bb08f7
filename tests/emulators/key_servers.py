"""What gives an access key to who is near enough: an instance's metadata, and a credentials URI.

https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
https://www.alibabacloud.com/help/en/sdk/developer-reference/v2-manage-python-access-credentials
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import Call, EmulatedService, refuse
from tests.emulators.faults import Refuse
from tests.emulators.wire import Answer, Request

ROLES = "/latest/meta-data/ram/security-credentials/"
TOKEN = "an-emulated-metadata-token"


class KeyServer(EmulatedService):
    """A credentials URI: whatever the path, it answers with `key`, which is good for `seconds`."""

    server_name = "emulated"
    request_id_header = "x-request-id"

    def __init__(self, key: AccessKey, *, seconds: float = 6 * 3600) -> None:
        super().__init__()
        self.key = key
        self.seconds = seconds

    def new_request_id(self) -> str:
        return str(uuid.uuid4())

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        return f"{request.method} {request.path}", None

    def perform(self, call: Call) -> Answer:
        return _given(self.key, call.now + timedelta(seconds=self.seconds))

    def refused(self, refusal: Refuse, _: Call, /) -> Answer:
        headers = {"Content-Type": "text/plain", **refusal.headers}
        return Answer(refusal.status, headers, refusal.message.encode())


class Metadata(KeyServer):
    """The metadata service of an instance with one role, which asks for a token first."""

    role = "an-instance-role"

    def perform(self, call: Call) -> Answer:
        method, path = call.request.method, call.request.path
        if (method, path) == ("PUT", "/latest/api/token"):
            return Answer(200, {}, TOKEN.encode())
        if call.request.headers.get("x-aliyun-ecs-metadata-token") != TOKEN:
            raise refuse(403, "Forbidden", "no token")
        if (method, path) == ("GET", ROLES):
            return Answer(200, {}, self.role.encode())
        if (method, path) == ("GET", ROLES + self.role):
            return super().perform(call)
        raise refuse(404, "NotFound", "not found")


def _given(key: AccessKey, until: datetime) -> Answer:
    fields = {
        "Code": "Success",
        "AccessKeyId": key.id,
        "AccessKeySecret": key.secret,
        "SecurityToken": key.security_token,
        "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(fields).encode())
