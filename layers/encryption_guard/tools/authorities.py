"""Certificate authorities, each in a file that OpenSSL finds by its name: from PEM text, purely.

OpenSSL reads the whole of a bundle before the first handshake, but of a folder of such files (which
`openssl rehash` makes too) only the authority that a server's certificate names.
"""

from __future__ import annotations

import re
from collections import Counter

from OpenSSL import crypto

BLOCK = re.compile(
    r"^-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----$", re.MULTILINE | re.DOTALL
)


class UnreadableAnswer(Exception):
    """A bundle holds what is no certificate; the message is for a person."""


def by_subject(bundle: str) -> dict[str, str]:
    """The files of such a folder by their names: each certificate of the bundle once."""
    blocks = BLOCK.findall(bundle)
    if not blocks or bundle.count("-----BEGIN") != len(blocks):
        raise UnreadableAnswer("it holds none, or something besides certificates")
    seen: Counter[str] = Counter()
    files = {}
    # A dictionary, because it keeps the order: the same bundle makes the same names.
    for number, block in enumerate(dict.fromkeys(blocks), start=1):
        try:
            certificate = crypto.load_certificate(crypto.FILETYPE_PEM, block.encode())
        except crypto.Error as error:
            raise UnreadableAnswer(f"certificate {number}: {error}") from None
        name = f"{certificate.subject_name_hash():08x}"
        files[f"{name}.{seen[name]}"] = f"{block}\n"
        seen[name] += 1
    return files
