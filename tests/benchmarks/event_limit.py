"""One event at the least: what names the bucket is read, two requests are signed and sent by hand.

Nothing is checked, so nobody should run it.
"""

from __future__ import annotations

import functools
import json
import os
import ssl

from tests.benchmarks.limit import ENCRYPTION, Send, open_requests


@functools.cache
def _requests() -> Send:
    trusted = os.environ["AUTHORITIES"]  # noqa: TID251  no setting of the guard's here
    endpoint = os.environ["GUARD_OSS_TABLES_ENDPOINT"]  # noqa: TID251  as above
    return open_requests(endpoint, ssl.create_default_context(capath=trusted))


def initialize(_context: object) -> None:
    """Open TLS."""
    _requests()


def handler(event: bytes, _context: object) -> str:
    """Encrypt the event's bucket."""
    arn = json.loads(event)["data"]["responseElements"]["arn"]
    json.loads(_requests()("GET", arn, b""))
    _requests()("PUT", arn, json.dumps(ENCRYPTION).encode())
    return json.dumps({"outcome": "encrypted", "arn": arn})
