"""How a request to OSS Tables names its operation and its bucket, and what it must look like."""

import base64
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

from tests.emulators.emulated_service import RefusedError
from tests.emulators.faults import Refuse
from tests.emulators.wire import LOOPBACK_HOSTS, Request

# In the order of the path's segments; braces are what a request fills in.
ROUTES = {
    ("PUT", "buckets"): "CreateTableBucket",
    ("GET", "buckets"): "ListTableBuckets",
    ("GET", "buckets/{arn}"): "GetTableBucket",
    ("DELETE", "buckets/{arn}"): "DeleteTableBucket",
    ("PUT", "buckets/{arn}/encryption"): "PutTableBucketEncryption",
    ("GET", "buckets/{arn}/encryption"): "GetTableBucketEncryption",
    ("DELETE", "buckets/{arn}/encryption"): "DeleteTableBucketEncryption",
    ("PUT", "namespaces/{arn}"): "CreateNamespace",
    ("GET", "namespaces/{arn}"): "ListNamespaces",
    ("PUT", "tables/{arn}/{namespace}"): "CreateTable",
    ("GET", "tables/{arn}"): "ListTables",
    ("GET", "tables/{arn}/{namespace}/{table}/encryption"): "GetTableEncryption",
    ("GET", "get-table"): "GetTable",
}

# What these operations say in the query instead of the path.
PARAMETERS = {"GetTable": {"arn": "tableBucketARN", "namespace": "namespace", "table": "name"}}

WRITES = frozenset(
    {
        "CreateTableBucket",
        "DeleteTableBucket",
        "PutTableBucketEncryption",
        "DeleteTableBucketEncryption",
        "CreateNamespace",
        "CreateTable",
    }
)

ARN = re.compile(
    r"acs:osstables:(?P<region>[a-z]{2}(?:-[a-z0-9]+)+):(?P<account>[0-9]{5,20})"
    r":bucket/(?P<name>[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9])",
    re.ASCII,
)
HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9-]+)-(?P<account>[0-9]+)\.)?"
    r"(?P<region>[a-z]{2}(?:-[a-z0-9]+)+?)(?:-internal)?\.oss-tables\.aliyuncs\.com",
    re.ASCII,
)
# Narrower than the names of buckets that exist: what the service lets anybody call a new one.
LONGEST_NEW_NAME = 32
RESERVED_PREFIXES = ("oss", "acs", "aliyun", "alibaba", "aws")


@dataclass(frozen=True)
class BucketArn:
    """A table bucket by its full name."""

    region: str
    account_id: str
    name: str

    def __str__(self) -> str:
        return f"acs:osstables:{self.region}:{self.account_id}:bucket/{self.name}"


@dataclass(frozen=True)
class Route:
    """What the path says, or the query. `arn` is as the request has it, valid or not."""

    operation: str
    arn: str | None = None
    namespace: str | None = None
    table: str | None = None

    @property
    def bucket(self) -> BucketArn | None:
        """None for operations on no particular bucket."""
        return None if self.arn is None else bucket_arn(self.arn)


def bad_request(message: str) -> RefusedError:
    return RefusedError(Refuse(400, "BadRequestException", message))


def bucket_arn(text: str) -> BucketArn:
    match = ARN.fullmatch(text)
    if match is None:
        raise bad_request("The specified table bucket ARN is not valid.")
    return BucketArn(match["region"], match["account"], match["name"])


def new_bucket_arn(region: str, account_id: str, name: str) -> BucketArn:
    """The ARN of a bucket that is to be created."""
    arn = BucketArn(region, account_id, name)
    reserved = name.startswith(RESERVED_PREFIXES) or len(name) > LONGEST_NEW_NAME
    if reserved or ARN.fullmatch(str(arn)) is None:
        raise bad_request("The specified table bucket name is not valid.")
    return arn


def route(request: Request) -> Route | None:
    """The route of the raw path: an ARN's own slash is escaped there, so it divides nothing."""
    segments = request.path.removeprefix("/").split("/")
    for (method, pattern), operation in ROUTES.items():
        names = pattern.split("/")
        if method == request.method and len(names) == len(segments):
            pairs = list(zip(names, segments, strict=True))
            if all(name == segment or name.startswith("{") for name, segment in pairs):
                filled = {n[1:-1]: unquote(s) for n, s in pairs if n.startswith("{")}
                return Route(operation, **filled, **_from_query(operation, request))
    return None


def _from_query(operation: str, request: Request) -> dict[str, str]:
    """What the query has to fill in; empty, and thus no valid ARN, where it does not."""
    given = request.parameters
    return {field: given.get(name, "") for field, name in PARAMETERS.get(operation, {}).items()}


def check_host(request: Request, bucket: BucketArn | None) -> str | None:
    """The region that the host tells, if it tells one; it must not contradict the path."""
    if request.host in LOOPBACK_HOSTS:
        return None
    match = HOST.fullmatch(request.host)
    if match is None:
        raise bad_request("The specified endpoint is not one of OSS Tables.")
    named = (match["bucket"], match["account"])
    if named != (None, None) and (bucket is None or named != (bucket.name, bucket.account_id)):
        raise bad_request("TableBucketArn from uri and from host not match.")
    return match["region"]


def check_content(request: Request) -> None:
    """Content-MD5 is what makes the signature cover the body."""
    digest = request.headers.get("content-md5")
    actual = hashlib.md5(request.body, usedforsecurity=False).digest()
    if digest is not None and digest != base64.b64encode(actual).decode("ascii"):
        raise bad_request("The Content-MD5 you specified did not match what we received.")
    if request.method == "PUT" and request.body:
        if digest is None:
            raise bad_request("Missing required header: Content-MD5.")
        if not request.headers.get("content-type"):
            raise bad_request("Missing required header: Content-Type.")
