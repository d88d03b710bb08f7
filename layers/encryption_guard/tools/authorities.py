"""Split a PEM bundle of certificate authorities into a folder that OpenSSL can search by name.

OpenSSL parses a whole bundle before the first handshake. In a folder like the one that
`openssl rehash` makes, it reads only the authority that issued the server's certificate.
"""

from __future__ import annotations

import re
from collections import Counter

from OpenSSL import crypto

BLOCK = re.compile(
    r"^-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----$", re.MULTILINE | re.DOTALL
)


class InvalidBundle(Exception):
    """A bundle that is empty, or that holds something other than certificates."""


def split_bundle(bundle: str) -> dict[str, str]:
    """Return one PEM file for each distinct certificate, by the file name that OpenSSL looks up.

    A name is the hash of the subject in hexadecimal and a number, such as `5ed36f99.0`.
    Raises InvalidBundle if a certificate cannot be read.
    """
    blocks = BLOCK.findall(bundle)
    if not blocks or bundle.count("-----BEGIN") != len(blocks):
        raise InvalidBundle("it is empty, or holds something other than certificates")
    used: Counter[str] = Counter()
    files = {}
    # A dictionary removes duplicates and keeps the order, so the names are reproducible.
    for number, block in enumerate(dict.fromkeys(blocks), start=1):
        try:
            certificate = crypto.load_certificate(crypto.FILETYPE_PEM, block.encode())
        except crypto.Error as error:
            raise InvalidBundle(f"certificate {number}: {error}") from None
        name = f"{certificate.subject_name_hash():08x}"
        files[f"{name}.{used[name]}"] = f"{block}\n"
        used[name] += 1
    return files
