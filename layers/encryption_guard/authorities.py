"""Certificate authorities, each in a file that OpenSSL finds by its name: from PEM text, purely.

OpenSSL reads the whole of a bundle before the first handshake, but of a folder of such files (which
`openssl rehash` makes too) only the authority that a server's certificate names. A file is named by
the hash of the subject's canonical encoding, as OpenSSL has it since 1.0.0.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha1

BLOCK = re.compile(
    r"^-----BEGIN CERTIFICATE-----\n(.+?)\n-----END CERTIFICATE-----$", re.MULTILINE | re.DOTALL
)
INTEGER, OID, UTF8_STRING, SEQUENCE, SET, VERSION = 0x02, 0x06, 0x0C, 0x30, 0x31, 0xA0
# What a certificate holds, up to its subject.
UP_TO_SUBJECT = [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]
# The kinds of text that OpenSSL compares as text, and how it reads them; others stay as they are.
ENCODINGS = {
    UTF8_STRING: "utf-8",
    0x13: "latin-1",  # PrintableString
    0x14: "latin-1",  # T61String
    0x16: "latin-1",  # IA5String
    0x1A: "latin-1",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


class Unreadable(Exception):
    """A bundle holds what is no certificate; the message is for a person."""


def by_subject(bundle: str) -> dict[str, str]:
    """The files of such a folder by their names: each certificate of the bundle once."""
    # A dictionary, because it keeps the order: the same bundle makes the same names.
    blocks = list({block[0]: block[1] for block in BLOCK.finditer(bundle)}.items())
    if not blocks or bundle.count("-----BEGIN") != len(BLOCK.findall(bundle)):
        raise Unreadable("it holds none, or something besides certificates")
    seen: Counter[str] = Counter()
    files = {}
    for number, (block, encoded) in enumerate(blocks, start=1):
        try:
            name = f"{subject_hash(b64decode(encoded.replace(chr(10), ''), validate=True)):08x}"
        except (Unreadable, ValueError) as error:
            raise Unreadable(f"certificate {number} of {len(blocks)}: {error}") from None
        files[f"{name}.{seen[name]}"] = f"{block}\n"
        seen[name] += 1
    return files


def subject_hash(certificate: bytes) -> int:
    """What `openssl x509 -subject_hash` tells of a certificate in DER."""
    canonical = b"".join(canonical_name(subject(certificate)))
    digest = sha1(canonical, usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "little")


def subject(certificate: bytes) -> bytes:
    """The content of the subject's name."""
    whole = list(elements(certificate, [SEQUENCE]))
    signed = list(elements(whole[0][1])) if len(whole) == 1 else []
    fields = list(elements(signed[0][1])) if signed else []
    if fields and fields[0][0] == VERSION:
        del fields[0]
    if [tag for tag, _ in fields[: len(UP_TO_SUBJECT)]] != UP_TO_SUBJECT:
        raise Unreadable("it has no subject where one belongs")
    return fields[len(UP_TO_SUBJECT) - 1][1]


def canonical_name(name: bytes) -> Iterator[bytes]:
    """Each part of a name as it is hashed; OpenSSL leaves out the header around them."""
    for _, part in elements(name, [SET]):
        attributes = [
            encoded(SEQUENCE, canonical_attribute(attribute))
            for _, attribute in elements(part, [SEQUENCE])
        ]
        yield encoded(SET, b"".join(sorted(attributes)))


def canonical_attribute(attribute: bytes) -> bytes:
    """Its kind as it is, and its value: text in UTF-8, without needless space and capitals."""
    pair = list(elements(attribute))
    if len(pair) != 2 or pair[0][0] != OID:
        raise Unreadable("its subject is not made of pairs")
    (_, kind), (tag, value) = pair
    if tag in ENCODINGS:
        text = value.decode(ENCODINGS[tag]).encode()
        # Of bytes, because only ASCII counts as space and as capitals.
        tag, value = UTF8_STRING, b" ".join(text.split()).lower()
    return encoded(OID, kind) + encoded(tag, value)


def elements(content: bytes, tags: Iterable[int] = ()) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each element of DER; where tags are given, no other may be."""
    position, allowed = 0, set(tags)
    while position < len(content):
        tag = content[position]
        length, start = length_at(content, position + 1)
        position = start + length
        if position > len(content):
            raise Unreadable("it ends too early")
        if allowed and tag not in allowed:
            raise Unreadable(f"it has an element {tag:#04x} where none belongs")
        yield tag, content[start:position]


def length_at(content: bytes, position: int) -> tuple[int, int]:
    """The length that an element of DER tells, and where its content starts."""
    first, start = int.from_bytes(content[position : position + 1], "big"), position + 1
    if start > len(content) or first == 0x80:
        raise Unreadable("it has an element without a length")
    if first < 0x80:
        return first, start
    end = start + (first & 0x7F)
    return int.from_bytes(content[start:end], "big"), end


def encoded(tag: int, content: bytes) -> bytes:
    """An element of DER."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
