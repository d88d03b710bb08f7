"""From the API call to the encrypted bucket: the cloud as deployed, the handler in a process."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, repeat
from typing import Any

import pytest
from alibabacloud_oss_v2 import tables as oss_tables
from mns.account import Account

from tests.emulators.action_trail import SHAPES, Shape
from tests.emulators.cloud import OWNER, QUEUE, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Fault, Refuse, Reset
from tests.emulators.function_compute import Kill
from tests.emulators.oss_tables import ApiCall
from tests.emulators.owners_client import owners_client

PUT = "PutTableBucketEncryption"


Owner = Callable[[EmulatedCloud], Any]


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Makes the vendor's own client, in the hands of the account's owner."""
    with ExitStack() as stack:
        yield lambda cloud: stack.enter_context(owners_client(cloud))


def create(client: Any, *names: str) -> list[str]:
    """Create buckets through the vendor's client; their ARNs."""
    request = oss_tables.models.CreateTableBucketRequest
    return [client.create_table_bucket(request(name=name)).arn for name in names]


def algorithm(client: Any, arn: str) -> str | None:
    """The encryption that the vendor's client reads."""
    request = oss_tables.models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
    found = client.get_table_bucket_encryption(request).encryption_configuration
    return found.sse_algorithm if found else None


def test_every_place_that_may_name_the_bucket_works(owner: Owner) -> None:
    """Whichever place of the event names the bucket, it is encrypted, and the place is logged."""
    names = {shape: shape.lower() for shape in SHAPES}
    shapes: dict[str | None, Shape] = {name: shape for shape, name in names.items()}

    def shape_of(call: ApiCall) -> Shape:
        return shapes[call.bucket]

    with emulated_cloud(shape_of=shape_of) as cloud:
        client = owner(cloud)
        arns = create(client, *names.values())
        cloud.bus.join(timeout=20)

        assert [algorithm(client, arn) for arn in arns] == ["AES256"] * len(SHAPES)
        outcomes = {line["named_by"]: line["outcome"] for line in cloud.outcomes()}
        assert outcomes == dict.fromkeys(SHAPES, "encrypted")


def test_an_event_that_comes_twice_does_no_harm(owner: Owner) -> None:
    """The second delivery finds the bucket encrypted and leaves it at that."""
    with emulated_cloud(twice=1.0) as cloud:
        create(owner(cloud), "orders")
        cloud.bus.join(timeout=20)

        outcomes = sorted(line["outcome"] for line in cloud.outcomes())
        assert outcomes == ["already_encrypted", "encrypted"]


def test_a_service_that_is_down_costs_retries_and_ends_in_the_queue(
    owner: Owner,
) -> None:
    """What the platform's retries do not bring to an end is kept by its failure destination."""
    with emulated_cloud(environment={"GUARD_MAX_ATTEMPTS": "1"}) as cloud:
        cloud.tables.faults.add(Fault(Refuse(500), operation=PUT))
        client = owner(cloud)

        (arn,) = create(client, "orders")
        cloud.bus.join(timeout=20)

        assert [try_.result for try_ in cloud.invocations] == [None] * 4
        (record,) = [json.loads(body) for body in cloud.queue.bodies(QUEUE)]

        cloud.tables.faults.clear()
        cloud.function.deliver(json.dumps(record).encode())

        assert algorithm(client, arn) == "AES256"


def test_a_killed_process_loses_nothing(owner: Owner) -> None:
    """A process that is killed in the middle of its work is retried in a new one."""
    kill_first = chain([Kill(after_ms=1)], repeat(None))

    with emulated_cloud(chaos=lambda _event: next(kill_first)) as cloud:
        cloud.tables.faults.add(Fault(Reset(), operation=PUT, times=1))
        client = owner(cloud)

        (arn,) = create(client, "orders")
        cloud.bus.join(timeout=20)

        assert algorithm(client, arn) == "AES256"
        assert [try_.cold_start for try_ in cloud.invocations] == [True, True]


def test_when_the_queue_refuses_too_the_event_survives_twice(
    owner: Owner,
) -> None:
    """A letter that cannot be written is whole in the log, and the platform keeps the event."""
    with emulated_cloud() as cloud:
        cloud.tables.faults.add(Fault(Refuse(403), operation=PUT))
        cloud.queue.faults.add(Fault(Refuse(403), operation="SendMessage"))

        create(owner(cloud), "orders")
        cloud.bus.join(timeout=20)

        lines = [json.loads(line) for line in cloud.invocations[0].logs.splitlines()]
        (written,) = [line for line in lines if line["message"] == "dead letter not written"]
        assert written["level"] == "ERROR"
        assert json.loads(written["dead_letter"]["event"])["data"]["eventName"]
        (record,) = [json.loads(body) for body in cloud.queue.bodies(QUEUE)]
        assert record["requestPayload"] == written["dead_letter"]["event"]


def test_the_vendors_queue_client_reads_our_letter(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead letter is a message as the vendor's own client reads it, base64 taken off."""
    with emulated_cloud() as cloud:
        cloud.tables.faults.add(Fault(Refuse(403, "ForbiddenException"), operation=PUT))
        monkeypatch.setenv("SSL_CERT_FILE", str(cloud.certificate))
        create(owner(cloud), "orders")
        cloud.bus.join(timeout=20)

        account = Account(cloud.queue.url, OWNER.id, OWNER.secret)
        message = account.get_queue(QUEUE).receive_message(0)
        account.mns_client.close_connection()

        letter = json.loads(message.message_body)
        assert (letter["reason"], letter["code"]) == ("rejected", "ForbiddenException")
        assert message.message_body == b64decode(cloud.queue.bodies(QUEUE)[0])


def test_our_request_is_the_vendors_request(owner: Owner) -> None:
    """GET and PUT go out as the vendor's client sends them: target, body and signed headers."""
    with emulated_cloud() as cloud:
        client = owner(cloud)
        (arn,) = create(client, "orders")
        cloud.bus.join(timeout=20)
        ours = cloud.tables.requests[-2:]

        models = oss_tables.models
        client.get_table_bucket_encryption(
            models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
        )
        client.put_table_bucket_encryption(
            models.PutTableBucketEncryptionRequest(
                table_bucket_arn=arn,
                encryption_configuration=models.EncryptionConfiguration(sse_algorithm="AES256"),
            )
        )
        theirs = cloud.tables.requests[-2:]

        for our, their in zip(ours, theirs, strict=True):
            assert (our.method, our.path, our.query) == (their.method, their.path, their.query)
            assert our.body == their.body
            same = {"content-type", "content-md5", "x-oss-content-sha256", "host", "date"}
            sent = set(our.headers) - {"x-oss-security-token"}
            assert same | {"x-oss-date", "authorization"} <= sent & set(their.headers)
            for name in same - {"date"}:
                assert our.headers[name] == their.headers[name]
