#!/usr/bin/env bash
# Expected: a parser treats a line that ends in a bare line feed in one way. RFC 9112 (2.2) lets a
#           recipient accept it in the head, and many accept it in the lines of chunks too.
# Happens:  h11 accepts it in the head, but not after the size of a chunk: there it waits for more.
#           So h11 can read a server that ends every line like this only if the answer has a length.
# Version:  h11 0.16.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'h11==0.16.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'PROGRAM'
import sys

import h11


def outcome(answer: bytes) -> str:
    """Return the body of this answer, or NEED_DATA if h11 waits for more."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "127.0.0.1")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            return "NEED_DATA"
        body += bytes(event.data) if isinstance(event, h11.Data) else b""
    return repr(body)


with_length = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
in_chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
print(f"h11 {h11.__version__}")
seen = {
    "a length, CRLF": outcome(with_length),
    "a length, LF": outcome(with_length.replace(b"\r\n", b"\n")),
    "chunks, CRLF": outcome(in_chunks),
    "chunks, LF": outcome(in_chunks.replace(b"\r\n", b"\n")),
}
for given, what in seen.items():
    print(f"{given + ':':16} {what}")

if {seen["a length, CRLF"], seen["a length, LF"], seen["chunks, CRLF"]} != {"b'{}'"}:
    sys.exit("changed: a line feed alone is not taken in the head, or an answer has another body")
if seen["chunks, LF"] != "NEED_DATA":
    sys.exit("changed: a line feed alone is taken in the lines of chunks")
PROGRAM
