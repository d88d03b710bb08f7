"""The emulated OSS Tables under the official client, unchanged."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_oss_v2 import tables
from alibabacloud_oss_v2.transport import RequestsHttpClient

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import utc_now
from tests.emulators.oss_tables import ApiCall, OssTables
from tests.emulators.server import Authority

ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/my-table-bucket"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN", expires_at=utc_now() + timedelta(hours=1))

Connect = Callable[..., Any]


@pytest.fixture
def service() -> Iterator[OssTables]:
    with OssTables(KEY) as service:
        yield service


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes official clients, and closes their connections."""
    transports = []

    def client(endpoint: str, key: AccessKey = KEY, **settings: Any) -> Any:
        transports.append(RequestsHttpClient())
        config = oss.config.Config(
            region=REGION,
            endpoint=endpoint,
            credentials_provider=oss.credentials.StaticCredentialsProvider(
                key.id, key.secret, key.security_token
            ),
            http_client=transports[-1],
            retry_max_attempts=1,
            **settings,
        )
        return tables.Client(config)

    yield client
    for transport in transports:
        transport.close()


def aes256() -> Any:
    return tables.models.EncryptionConfiguration(sse_algorithm="AES256")


def put(client: Any, arn: str, configuration: Any = None) -> Any:
    return client.put_table_bucket_encryption(
        tables.models.PutTableBucketEncryptionRequest(
            table_bucket_arn=arn, encryption_configuration=configuration or aes256()
        )
    )


def get(client: Any, arn: str) -> Any:
    return client.get_table_bucket_encryption(
        tables.models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
    )


def create(client: Any, name: str, configuration: Any = None) -> Any:
    return client.create_table_bucket(
        tables.models.CreateTableBucketRequest(name=name, encryption_configuration=configuration)
    )


def get_table(client: Any, arn: str, name: str) -> Any:
    return client.get_table(
        tables.models.GetTableRequest(table_bucket_arn=arn, namespace="ns", name=name)
    )


def get_table_encryption(client: Any, arn: str, name: str) -> Any:
    return client.get_table_encryption(
        tables.models.GetTableEncryptionRequest(table_bucket_arn=arn, namespace="ns", name=name)
    )


def pages(list_page: Callable[..., Any], request: Any) -> list[Any]:
    """All pages of a list, each asked for with the token of the one before."""
    found = [list_page(request)]
    while found[-1].continuation_token:
        request.continuation_token = found[-1].continuation_token
        found.append(list_page(request))
    return found


def refusal(call: Callable[..., Any], *arguments: Any) -> Any:
    """The error that the official client makes of an answer."""
    with pytest.raises(oss.exceptions.OperationError) as caught:
        call(*arguments)
    return caught.value.unwrap()


def test_a_created_bucket_can_be_read_back(service: OssTables, connect: Connect) -> None:
    """CreateTableBucket returns the ARN under which GetTableBucket finds the bucket."""
    client = connect(service.url)

    arn = create(client, "my-table-bucket").arn
    found = client.get_table_bucket(tables.models.GetTableBucketRequest(table_bucket_arn=arn))

    assert arn == ARN
    assert (found.arn, found.name, found.owner_account_id) == (ARN, "my-table-bucket", ACCOUNT)
    assert found.type == "customer"


def test_encryption_is_put_read_and_deleted(service: OssTables, connect: Connect) -> None:
    """A bucket has the encryption that was put last, and none after a delete."""
    arn = service.plant("my-table-bucket")
    client = connect(service.url)

    written = put(client, arn)
    after_put = service.encryption(arn), get(client, arn).encryption_configuration.sse_algorithm
    deleted = client.delete_table_bucket_encryption(
        tables.models.DeleteTableBucketEncryptionRequest(table_bucket_arn=arn)
    )

    assert (written.status_code, deleted.status_code) == (200, 204)
    assert after_put == ("AES256", "AES256")
    assert service.encryption(arn) is None


def test_a_bucket_may_be_created_encrypted(service: OssTables, connect: Connect) -> None:
    """CreateTableBucket takes an encryption for those who may put one, and only for them."""
    reader = AccessKey("READER", "S", ACCOUNT, denied=frozenset({"PutTableBucketEncryption"}))
    with OssTables(reader) as other:
        created = create(connect(service.url), "encrypted", aes256())
        error = refusal(create, connect(other.url, reader), "encrypted", aes256())

    assert service.encryption(created.arn) == "AES256"
    assert (error.status_code, error.code) == (403, "ForbiddenException")


def test_buckets_are_listed_in_pages(service: OssTables, connect: Connect) -> None:
    """A list has the buckets of its own region and account by name, at most maxBuckets a page."""
    for name in ("b-2", "b-1", "b-3", "a-1"):
        service.plant(name)
    service.plant("b-4", region="cn-beijing")
    service.plant("b-5", account_id="9999999999999999")
    client = connect(service.url)

    first = client.list_table_buckets(
        tables.models.ListTableBucketsRequest(prefix="b-", max_buckets=2)
    )
    second = client.list_table_buckets(
        tables.models.ListTableBucketsRequest(
            prefix="b-", max_buckets=2, continuation_token=first.continuation_token
        )
    )

    assert [bucket.name for bucket in first.table_buckets] == ["b-1", "b-2"]
    assert [bucket.name for bucket in second.table_buckets] == ["b-3"]
    assert second.continuation_token is None


def test_namespaces_are_listed_in_pages(service: OssTables, connect: Connect) -> None:
    """A page has at most maxNamespaces, and its token leads on to the rest and then ends."""
    arn = service.plant("my-table-bucket")
    for namespace in ("e", "b", "d", "a", "c"):
        service.plant_table(arn, namespace, "orders")

    found = pages(
        connect(service.url).list_namespaces,
        tables.models.ListNamespacesRequest(table_bucket_arn=arn, max_namespaces=2),
    )

    assert [[each.namespace for each in page.namespaces] for page in found] == [
        [["a"], ["b"]],
        [["c"], ["d"]],
        [["e"]],
    ]


def test_tables_of_a_namespace_are_listed_in_pages(service: OssTables, connect: Connect) -> None:
    """A page has at most maxTables of one namespace, whatever the others have."""
    arn = service.plant("my-table-bucket")
    for name in ("t4", "t2", "t1", "t3"):
        service.plant_table(arn, "ns", name)
        service.plant_table(arn, "another", name)
    service.plant_table(arn, "another", "t5")

    found = pages(
        connect(service.url).list_tables,
        tables.models.ListTablesRequest(table_bucket_arn=arn, namespace="ns", max_tables=2),
    )

    listed = [[(*table.namespace, table.name) for table in page.tables] for page in found]
    assert listed == [[("ns", "t1"), ("ns", "t2")], [("ns", "t3"), ("ns", "t4")]]


def test_a_list_tells_whose_a_bucket_is(service: OssTables, connect: Connect) -> None:
    """The type of a bucket is the customer's, the service's, another word, or is left out."""
    for name, kind in {"ours": "customer", "theirs": "oss", "other": "new", "silent": None}.items():
        service.plant(name, kind=kind)

    found = connect(service.url).list_table_buckets(tables.models.ListTableBucketsRequest())

    told = {bucket.name: bucket.type for bucket in found.table_buckets}
    assert told == {"ours": "customer", "theirs": "oss", "other": "new", "silent": None}


def test_a_deleted_bucket_is_gone(service: OssTables, connect: Connect) -> None:
    """DeleteTableBucket answers 204, and then the bucket is not found."""
    arn = service.plant("my-table-bucket")
    client = connect(service.url)

    deleted = client.delete_table_bucket(
        tables.models.DeleteTableBucketRequest(table_bucket_arn=arn)
    )
    error = refusal(get, client, arn)

    assert deleted.status_code == 204
    assert (error.status_code, error.code) == (404, "NotFoundException")
    assert error.message == "The specified table bucket does not exist."


def test_an_error_has_the_form_the_client_reads(service: OssTables, connect: Connect) -> None:
    """Of an error the official client reads status, code, message, EC and the request's id."""
    arn = service.plant("my-table-bucket")

    error = refusal(put, connect(service.url, replace(KEY, secret="wrong")), arn)

    assert (error.status_code, error.code) == (403, "ForbiddenException")
    assert error.message.startswith("The request signature we calculated does not match")
    assert error.ec == "0002-00000040"
    assert error.request_id == service.requests[-1].request_id


@pytest.mark.parametrize(
    "configuration",
    [
        tables.models.EncryptionConfiguration(sse_algorithm="KMS"),
        tables.models.EncryptionConfiguration(sse_algorithm="aes256"),
        tables.models.EncryptionConfiguration(sse_algorithm="AES256", kms_key_arn="acs:kms:k"),
    ],
)
def test_only_aes256_without_a_key_is_taken(
    service: OssTables, connect: Connect, configuration: Any
) -> None:
    """Any other encryption than AES256 without a KMS key is a bad request and changes nothing."""
    arn = service.plant("my-table-bucket", encryption="SM4")

    error = refusal(put, connect(service.url), arn, configuration)

    assert (error.status_code, error.code) == (400, "BadRequestException")
    assert service.encryption(arn) == "SM4"


def test_an_unset_encryption_has_two_forms(connect: Connect) -> None:
    """An encryption that was never set is empty or, if so switched, not found."""
    with OssTables(KEY) as empty, OssTables(KEY, unset="not_found") as absent:
        configuration = get(
            connect(empty.url), empty.plant("my-table-bucket")
        ).encryption_configuration
        error = refusal(get, connect(absent.url), absent.plant("my-table-bucket"))

    assert configuration.sse_algorithm is None
    assert (error.status_code, error.code) == (404, "NotFoundException")


def test_a_planted_bucket_may_have_any_encryption(service: OssTables, connect: Connect) -> None:
    """A bucket planted with KMS shows its algorithm and key."""
    arn = service.plant("my-table-bucket", encryption="KMS", kms_key_arn="acs:kms:key")

    found = get(connect(service.url), arn).encryption_configuration

    assert (found.sse_algorithm, found.kms_key_arn) == ("KMS", "acs:kms:key")


def test_a_new_bucket_may_be_invisible_at_first(connect: Connect) -> None:
    """A bucket made with invisible requests is not found so many times, and then it is."""
    with OssTables(KEY, invisible_requests=2) as service:
        client = connect(service.url)
        arn = create(client, "my-table-bucket").arn
        statuses = [refusal(put, client, arn).status_code for _ in range(2)]
        written = put(client, arn)

    assert statuses == [404, 404]
    assert written.status_code == 200


@pytest.mark.parametrize("name", ["ab", "a" * 33, "-abc", "Abc", "oss-bucket", "aws-bucket"])
def test_a_new_name_must_be_valid(service: OssTables, connect: Connect, name: str) -> None:
    """A name too short, too long, out of the alphabet or reserved is a bad request."""
    error = refusal(create, connect(service.url), name)

    assert (error.status_code, error.code) == (400, "BadRequestException")


def test_names_are_taken_once_and_buckets_counted(connect: Connect) -> None:
    """A name that exists is a conflict, and a bucket beyond the quota is refused."""
    with OssTables(KEY, bucket_quota=1) as service:
        client = connect(service.url)
        create(client, "first")
        taken, beyond = refusal(create, client, "first"), refusal(create, client, "second")

    assert (taken.status_code, beyond.status_code) == (409, 400)


def test_a_table_shows_what_its_bucket_has_now(service: OssTables, connect: Connect) -> None:
    """A table without its own encryption shows its bucket's, also one whose files are plain."""
    arn = service.plant("my-table-bucket")
    client = connect(service.url)
    client.create_namespace(
        tables.models.CreateNamespaceRequest(table_bucket_arn=arn, namespace=["ns"])
    )

    for name in ("before", "after"):
        client.create_table(
            tables.models.CreateTableRequest(
                table_bucket_arn=arn, namespace="ns", name=name, format="ICEBERG"
            )
        )
        put(client, arn)
    listed = client.list_tables(
        tables.models.ListTablesRequest(table_bucket_arn=arn, namespace="ns")
    )
    found = {
        table.name: (
            get_table_encryption(client, arn, table.name).encryption_configuration.sse_algorithm,
            service.files_of(arn, "ns", table.name),
        )
        for table in listed.tables
    }

    assert found == {"before": ("AES256", None), "after": ("AES256", "AES256")}


def test_a_bucket_with_a_namespace_cannot_be_deleted(service: OssTables, connect: Connect) -> None:
    """What is in it has to go first."""
    arn = service.plant("my-table-bucket")
    service.plant_table(arn, "ns", "planted")

    error = refusal(
        connect(service.url).delete_table_bucket,
        tables.models.DeleteTableBucketRequest(table_bucket_arn=arn),
    )

    assert error.status_code == 409


def test_a_table_can_be_read(service: OssTables, connect: Connect) -> None:
    """GetTable, whose bucket stands in the query, tells what and whose a table is."""
    arn = service.plant("my-table-bucket")
    table_arn = service.plant_table(arn, "ns", "orders")
    client = connect(service.url)

    found = get_table(client, arn, "orders")
    bucket = client.get_table_bucket(tables.models.GetTableBucketRequest(table_bucket_arn=arn))

    assert (found.namespace, found.name, found.table_arn) == (["ns"], "orders", table_arn)
    assert (found.type, found.format) == ("customer", "ICEBERG")
    assert (found.owner_account_id, found.table_bucket_id) == (ACCOUNT, bucket.table_bucket_id)
    recorded = service.requests[0]
    assert (recorded.operation, recorded.resource) == ("GetTable", "my-table-bucket")


@pytest.mark.parametrize(
    ("arn", "name", "status", "message"),
    [
        (ARN, "absent", 404, "The specified table does not exist."),
        (f"{ARN}-2", "orders", 404, "The specified table bucket does not exist."),
        (ARN.replace(ACCOUNT, "9" * 16), "orders", 403, "does not belong to you"),
    ],
)
def test_a_table_that_the_query_does_not_name_is_not_read(
    service: OssTables, connect: Connect, arn: str, name: str, status: int, message: str
) -> None:
    """GetTable for what is not there or not the caller's is refused for that."""
    service.plant_table(service.plant("my-table-bucket"), "ns", "orders")

    error = refusal(get_table, connect(service.url), arn, name)

    assert error.status_code == status
    assert message in error.message


def test_write_calls_are_told_to_the_audit_trail(connect: Connect) -> None:
    """Every write call of a known caller is reported once, with the error of a failed one."""
    calls: list[ApiCall] = []
    with OssTables(KEY, on_event=calls.append) as service:
        client = connect(service.url)
        arn = create(client, "my-table-bucket").arn
        get(client, arn)
        put(client, arn)
        error = refusal(create, client, "my-table-bucket")
        refusal(put, connect(service.url, replace(KEY, secret="wrong")), arn)

    assert [(call.operation, call.bucket, call.error_code) for call in calls] == [
        ("CreateTableBucket", "my-table-bucket", None),
        ("PutTableBucketEncryption", "my-table-bucket", None),
        ("CreateTableBucket", "my-table-bucket", "ConflictException"),
    ]
    assert {(call.region, call.account_id, call.arn) for call in calls} == {(REGION, ACCOUNT, ARN)}
    assert calls[-1].request_id == error.request_id
    assert calls[-1].error_message == error.message


@pytest.mark.parametrize(
    ("known", "sent", "code"),
    [
        (STS_KEY, KEY, "ForbiddenException"),
        (KEY, STS_KEY, "InvalidSecurityToken"),
        (STS_KEY, replace(STS_KEY, security_token="OTHER"), "InvalidSecurityToken"),
        (replace(STS_KEY, expires_at=utc_now()), STS_KEY, "SecurityTokenExpired"),
        (KEY, replace(KEY, id="NOBODY"), "ForbiddenException"),
        (replace(KEY, denied=frozenset({"Put*"})), KEY, "ForbiddenException"),
        (replace(KEY, allowed=frozenset({"Get*"})), KEY, "ForbiddenException"),
        (replace(KEY, account_id="9999999999999999"), KEY, "ForbiddenException"),
    ],
)
def test_a_wrong_caller_is_refused(
    connect: Connect, known: AccessKey, sent: AccessKey, code: str
) -> None:
    """A missing, foreign, wrong or expired token, a wrong key, account or right is a 403."""
    with OssTables(known) as service:
        arn = service.plant("my-table-bucket", account_id=ACCOUNT)
        error = refusal(put, connect(service.url, sent), arn)

    assert (error.status_code, error.code) == (403, code)
    assert service.encryption(arn) is None


def test_a_key_can_be_renewed(connect: Connect) -> None:
    """A key that is admitted while the service runs replaces the one of the same id."""
    expired = replace(STS_KEY, expires_at=utc_now())
    renewed = replace(STS_KEY, security_token="NEW")
    with OssTables(expired) as service:
        arn = service.plant("my-table-bucket")
        before = refusal(put, connect(service.url, expired), arn)
        service.admit(renewed)
        after = put(connect(service.url, renewed), arn)

    assert (before.code, after.status_code) == ("SecurityTokenExpired", 200)


@pytest.mark.parametrize(
    ("minutes", "error_types", "code"),
    [(-16, "telling", "RequestTimeTooSkewed"), (16, "generic", "ForbiddenException")],
)
def test_a_skewed_clock_is_refused(
    connect: Connect, minutes: int, error_types: Any, code: str
) -> None:
    """A request 16 minutes off is refused, with the service's own time in the Date header."""
    service_time = utc_now() + timedelta(minutes=minutes)
    with OssTables(KEY, error_types=error_types, clock=lambda: service_time) as service:
        error = refusal(put, connect(service.url), service.plant("my-table-bucket"))

    assert (error.status_code, error.code) == (403, code)
    assert error.ec == "0002-00000504"
    assert error.timestamp == service_time.replace(microsecond=0)


def test_a_temporary_key_with_its_token_is_accepted_over_tls(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client talks TLS to the emulator with nothing but its authority's file."""
    authority = Authority()
    bundle = authority.write(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with OssTables(STS_KEY, authority=authority) as service:
        arn = service.plant("my-table-bucket")
        client = connect(service.url, STS_KEY)

        for _ in range(3):
            put(client, arn)

    assert service.url.startswith("https://")
    assert service.encryption(arn) == "AES256"
    assert (len(service.requests), service.connections_accepted) == (3, 1)


@pytest.mark.parametrize("internal", ["", "-internal"])
def test_virtual_hosts_are_served(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, internal: str
) -> None:
    """A bucket is reached under its own host name, as the official client does by default."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: resolve(
            "127.0.0.1" if host.endswith(".aliyuncs.com") else host, *rest, **named
        ),
    )
    domain = f"{REGION}{internal}.oss-tables.aliyuncs.com"
    authority = Authority()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.write(tmp_path / "authority.pem")))
    with OssTables(KEY, authority=authority, host_names=(domain, f"*.{domain}")) as service:
        client = connect(f"https://{domain}:{service.port}")
        arn = create(client, "my-table-bucket").arn
        put(client, arn)

    hosts = [request.request.host for request in service.requests]
    assert hosts == [domain, f"my-table-bucket-{ACCOUNT}.{domain}"]
    assert service.encryption(arn) == "AES256"
