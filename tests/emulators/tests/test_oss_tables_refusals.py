"""The emulated OSS Tables refuses what the service would.

A request is signed by the official signer, and differs from a correct one in one place.
"""

import base64
import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from alibabacloud_oss_v2.signer.tables_v4 import TablesSignerV4
from alibabacloud_oss_v2.types import Credentials, HttpRequest, SigningContext

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import utc_now
from tests.emulators.oss_tables import OssTables

ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
HOST = f"{REGION}.oss-tables.aliyuncs.com"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/my-table-bucket"
ENCRYPTION_PATH = f"/buckets/{urllib.parse.quote(ARN, safe='')}/encryption"
AES256 = b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)


@pytest.fixture
def service() -> Iterator[OssTables]:
    with OssTables(KEY) as service:
        yield service


@dataclass(frozen=True)
class Draft:
    """A request that is still to be signed by the official signer; correct as it stands."""

    path: str = ENCRYPTION_PATH
    signed_path: str | None = None
    arn: str | None = ARN
    body: bytes = AES256
    content_type: str | None = "application/json"
    content_md5: bool = True
    region: str = REGION
    product: str = "osstables"
    additional: frozenset[str] = frozenset()
    method: str = "PUT"
    host: str | None = None
    afterwards: dict[str, str | None] = field(default_factory=dict)
    sent_body: bytes | None = None

    def headers(self) -> dict[str, str]:
        """The headers, signed, and then altered as `afterwards` says; None removes one."""
        digest = hashlib.md5(self.body, usedforsecurity=False).digest()
        wanted = {
            "Content-Type": self.content_type,
            "Content-MD5": base64.b64encode(digest).decode() if self.content_md5 else None,
            "Host": self.host,
        }
        present = {name: value for name, value in wanted.items() if value is not None}
        request = HttpRequest(self.method, f"http://any{self.path}", present)
        context = SigningContext(
            product=self.product,
            region=self.region,
            bucket=self.arn,
            key=(self.signed_path or self.path).removeprefix("/"),
            request=request,
            credentials=Credentials(KEY.id, KEY.secret),
            additional_headers=set(self.additional),
        )
        TablesSignerV4().sign(context)
        lowered = {name.lower(): value for name, value in request.headers.items()}
        altered = {**lowered, **self.afterwards}
        return {name: value for name, value in altered.items() if value is not None}


def send(service: OssTables, draft: Draft) -> tuple[int, str | None, str]:
    """Status, code and message of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    body = draft.body if draft.sent_body is None else draft.sent_body
    connection.request(draft.method, draft.path, body, draft.headers())
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    message = json.loads(content)["message"] if answer.status >= 400 else ""
    return answer.status, answer.headers["x-oss-error-type"], message


@pytest.mark.parametrize(
    "draft",
    [
        Draft(),
        Draft(host=f"{HOST}:80"),
        Draft(host=f"my-table-bucket-{ACCOUNT}.{HOST}"),
        Draft(host="localhost:1", additional=frozenset({"host"})),
        Draft(path=ENCRYPTION_PATH.replace("%3A", ":")),
    ],
    ids=["plain", "region's host", "bucket's host", "additional header signed", "bare colons"],
)
def test_what_is_right_is_accepted(service: OssTables, draft: Draft) -> None:
    """A request signed by hand with the official signer is carried out."""
    service.plant("my-table-bucket")

    status, _, _ = send(service, draft)

    assert status == 200
    assert service.encryption(ARN) == "AES256"


OTHER_ARN = ARN.replace("my-table-bucket", "other-bucket")
OTHER_PATH = ENCRYPTION_PATH.replace("my-table-bucket", "other-bucket")
FOREIGN = ARN.replace(ACCOUNT, "9999999999999999")
FOREIGN_PATH = ENCRYPTION_PATH.replace(ACCOUNT, "9999999999999999")
BAD = "BadRequestException"
FORBIDDEN = "ForbiddenException"
LATE = (utc_now() - timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize(
    ("draft", "status", "code", "message"),
    [
        (Draft(afterwards={"authorization": None}), 403, FORBIDDEN, "Anonymous user"),
        (Draft(afterwards={"authorization": "OSS AKID:x"}), 400, BAD, "Authorization header"),
        (Draft(afterwards={"x-oss-date": "now"}), 403, FORBIDDEN, "valid Date"),
        (Draft(afterwards={"x-oss-date": LATE}), 403, "RequestTimeTooSkewed", "too large"),
        (Draft(afterwards={"x-oss-added": "1"}), 403, FORBIDDEN, "does not match"),
        (Draft(afterwards={"content-type": "text/plain"}), 403, FORBIDDEN, "does not match"),
        (Draft(afterwards={"x-oss-content-sha256": "0" * 64}), 400, BAD, "UNSIGNED-PAYLOAD"),
        (Draft(arn=None), 403, FORBIDDEN, "does not match"),
        (Draft(arn=OTHER_ARN), 403, FORBIDDEN, "does not match"),
        (Draft(signed_path=OTHER_PATH), 403, FORBIDDEN, "does not match"),
        (Draft(path=OTHER_PATH, arn=OTHER_ARN), 404, "NotFoundException", "does not exist"),
        (Draft(path=FOREIGN_PATH, arn=FOREIGN), 403, FORBIDDEN, "does not belong to you"),
        (Draft(region="cn-beijing"), 400, BAD, "signing region"),
        (Draft(product="oss"), 400, BAD, "signing product"),
        (Draft(host="cn-beijing.oss-tables.aliyuncs.com"), 400, BAD, "signing region"),
        (Draft(host=f"other-bucket-{ACCOUNT}.{HOST}"), 400, BAD, "uri and from host not match"),
        (Draft(host="oss.example.com"), 400, BAD, "endpoint"),
        (Draft(sent_body=AES256 + b" "), 400, BAD, "Content-MD5"),
        (Draft(content_md5=False), 400, BAD, "Content-MD5"),
        (Draft(content_type=None), 400, BAD, "Content-Type"),
        (Draft(body=b"AES256"), 400, BAD, "JSON"),
        (Draft(body=b"{}"), 400, BAD, "encryptionConfiguration"),
        (Draft(path="/buckets/nonsense/encryption"), 400, BAD, "ARN is not valid"),
        (Draft(path=ENCRYPTION_PATH.replace("osstables", "oss")), 400, BAD, "ARN is not valid"),
        (Draft(path=ENCRYPTION_PATH + "s"), 405, "MethodNotAllowedException", "not allowed"),
    ],
)
def test_what_is_wrong_is_refused(
    service: OssTables, draft: Draft, status: int, code: str, message: str
) -> None:
    """A request altered anywhere is refused for that reason, and changes nothing."""
    service.plant("my-table-bucket")

    answered = send(service, draft)

    assert answered[:2] == (status, code)
    assert message in answered[2]
    assert service.encryption(ARN) is None


GOLDEN = [
    ("PUT", AES256, "e2c450ab7614dd4439aa357464e73afc8469d5502e3471ae6da8bde0b473df3b"),
    ("GET", b"", "4c54b9cd92c0ef638fb50e2961cffc745cd42ab33f90cdba26ffd162c0ceda61"),
]


@pytest.mark.parametrize(("method", "body", "signature"), GOLDEN)
def test_known_signatures_are_accepted(method: str, body: bytes, signature: str) -> None:
    """Signatures that were recorded from the official client are right at their time."""
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    scope = f"20260102/{REGION}/osstables/aliyun_v4_request"
    authorization = f"OSS4-HMAC-SHA256 Credential=AKID/{scope},Signature={signature}"
    recorded: dict[str, str | None] = {
        "authorization": authorization,
        "x-oss-date": "20260102T030405Z",
    }
    with OssTables(KEY, clock=lambda: then) as service:
        service.plant("my-table-bucket")

        status, _, _ = send(service, Draft(method=method, body=body, afterwards=recorded))

    assert status == 200
