"""The folder in which OpenSSL looks an authority up; OpenSSL itself says what it has to be like."""

from __future__ import annotations

import ssl
from base64 import b64encode
from datetime import datetime
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from layers.encryption_guard.tools.authorities import InvalidBundle, split_bundle

KEY = generate_private_key(SECP256R1())
DAY = datetime(2026, 1, 1)  # noqa: DTZ001  certificates know only UTC


def named(subject: str) -> str:
    """A certificate in PEM whose subject is called so."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder(x509.Name([]), name, KEY.public_key(), 1, DAY, DAY)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


def test_every_certificate_of_the_bundle_is_in_one_file() -> None:
    """Python's own `ssl` reads the same certificates from the files as from the bundle."""
    bundle = Path(certifi.where()).read_text("utf-8")
    whole = ssl.create_default_context(cadata=bundle).get_ca_certs(binary_form=True)

    files = split_bundle(bundle)

    alone = [ssl.PEM_cert_to_DER_cert(certificate) for certificate in files.values()]
    assert sorted(alone) == sorted(whole)
    assert all(text.startswith("-----BEGIN CERTIFICATE-----\n") for text in files.values())
    assert all(text.endswith("\n-----END CERTIFICATE-----\n") for text in files.values())


def test_namesakes_are_numbered() -> None:
    """OpenSSL asks for .0, .1 and so on, in the bundle's order; what is there twice is one file."""
    first, second, other = named("Same"), named(" same "), named("other")

    files = split_bundle(f"# one\n{first}\n# two\n{second}{other}\n{first}")

    (hashed,) = {name[:8] for name, text in files.items() if text != other}
    assert files[f"{hashed}.0"] == first
    assert files[f"{hashed}.1"] == second
    assert len(files) == 3


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Client and server in one thread; raises what the client does."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname="guarded.example")
    for side in (asking, serving, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def serving(authority: trustme.CA) -> ssl.SSLContext:
    """A server whose certificate is of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("guarded.example").configure_cert(context)
    return context


def authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name, organization_unit_name="Authorities")


def written(folder: Path, *authorities: trustme.CA) -> Path:
    """The folder of these authorities."""
    for name, text in split_bundle(
        "".join(ca.cert_pem.bytes().decode() for ca in authorities)
    ).items():
        (folder / name).write_text(text)
    return folder


def test_openssl_finds_an_authority_in_the_folder(tmp_path: Path) -> None:
    """Of two namesakes and a stranger too; nothing is read before a certificate asks for it."""
    ours, namesake, stranger = authority(" A  Name"), authority("a name"), authority("Stranger")
    client = ssl.create_default_context(capath=written(tmp_path, ours, namesake, stranger))

    assert client.cert_store_stats()["x509"] == 0
    for one in (stranger, namesake, ours):
        handshake(serving(one), client)
    assert client.cert_store_stats()["x509"] == 3


def pem(content: bytes) -> str:
    """Whatever, as if it were a certificate."""
    lines = b64encode(content).decode()
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ("", "is empty"),
        (named("a")[:-30], "something other"),
        (named("a") + "-----BEGIN X509 CRL-----\n", "something other"),
        (
            "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
            "certificate 1: .*bad base64",
        ),
        (named("a") + pem(b"\x30"), "certificate 2: .*header too long"),
        (pem(ssl.PEM_cert_to_DER_cert(named("a"))[:-1]), "certificate 1: .*too long"),
    ],
)
def test_what_cannot_be_read_is_refused(bundle: str, reason: str) -> None:
    """An authority that OpenSSL would look for in vain is told of, not left out."""
    with pytest.raises(InvalidBundle, match=reason):
        split_bundle(bundle)
