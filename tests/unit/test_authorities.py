"""The folder in which OpenSSL looks an authority up; OpenSSL itself says what it has to be like."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import warnings
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from layers.encryption_guard.authorities import Unreadable, by_subject, encoded

OPENSSL = shutil.which("openssl")
asks_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl on this machine")

KEY = generate_private_key(SECP256R1())
DAY = datetime(2026, 1, 1)  # noqa: DTZ001  certificates know only UTC
# What of a name is compared as text, in the alphabet that each can hold.
KINDS = {
    Kind.UTF8String: st.characters(exclude_categories=["Cs"]),
    Kind.PrintableString: st.sampled_from("aZ09 '()+,-./:=?"),
    Kind.IA5String: st.characters(codec="ascii"),
    Kind.T61String: st.characters(codec="ascii"),
    Kind.NumericString: st.sampled_from("0123456789 "),
    Kind.BMPString: st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF),
    Kind.UniversalString: st.characters(exclude_categories=["Cs"]),
}
Attribute = tuple[x509.ObjectIdentifier, str, Kind]
ATTRIBUTES = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.EMAIL_ADDRESS]),
        # Space is what canonical names differ in, and chance alone seldom draws it.
        st.text(KINDS[kind] | st.sampled_from(" A"), min_size=1, max_size=40),
        st.just(kind),
    )
)
NAMES = st.lists(st.lists(ATTRIBUTES, min_size=1, max_size=3, unique_by=lambda one: one[0]))


def named(*parts: Iterable[Attribute]) -> str:
    """A certificate in PEM whose subject has these parts."""
    with warnings.catch_warnings():
        # About values that are too short or too long for their attribute: such exist.
        warnings.simplefilter("ignore", UserWarning)
        subject = x509.Name(
            x509.RelativeDistinguishedName(
                x509.NameAttribute(oid, value, kind, _validate=False) for oid, value, kind in part
            )
            for part in parts
        )
    builder = x509.CertificateBuilder(x509.Name([]), subject, KEY.public_key(), 1, DAY, DAY)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


def hash_by_openssl(certificate: str) -> str:
    """What OpenSSL calls the certificate."""
    command = [str(OPENSSL), "x509", "-noout", "-subject_hash"]
    done = subprocess.run(command, input=certificate, text=True, capture_output=True, check=True)
    return done.stdout.strip()


def of(value: str, kind: Kind = Kind.UTF8String) -> list[Attribute]:
    return [(NameOID.COMMON_NAME, value, kind)]


@asks_openssl
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="empty"),
        pytest.param([of("")], id="an empty value"),
        pytest.param([of("   ")], id="only space"),
        pytest.param([of("  Two  Words\t\n\v\f\rand more  ")], id="space of ASCII"),
        pytest.param([of("A\x1cB\x85C\xa0D\u2003E")], id="other space"),
        pytest.param([of("Örtliche ÄMTER İ")], id="capitals"),
        pytest.param([of("Straße 😀")], id="UTF-8"),
        pytest.param([of(" B M  P Ö", Kind.BMPString)], id="BMP"),
        pytest.param([of(" Uni \U0001f600", Kind.UniversalString)], id="Universal"),
        pytest.param([of("T  61", Kind.T61String)], id="T61"),
        pytest.param([of("T  61 \xe4\xd6", Kind.T61String)], id="T61 beyond ASCII"),
        pytest.param([of(" Prin  Table ", Kind.PrintableString)], id="Printable"),
        pytest.param([of("12  34 ", Kind.NumericString)], id="Numeric"),
        pytest.param([of("long " * 60)], id="a length of two bytes"),
        pytest.param([of("long " * 60_000)], id="a length of three bytes"),
        pytest.param(
            [[*of("b"), *of("A "), *of("aa"), (NameOID.ORGANIZATION_NAME, "Z", Kind.UTF8String)]],
            id="several values in one part",
        ),
        pytest.param([of("one"), of("two")], id="several parts"),
        pytest.param([of("two"), of("one")], id="parts the other way round"),
    ],
)
def test_a_file_is_named_as_openssl_names_it(parts: list[list[Attribute]]) -> None:
    """The hash is of the canonical name: kinds of text, space and capitals make no difference."""
    certificate = named(*parts)

    assert by_subject(certificate) == {f"{hash_by_openssl(certificate)}.0": certificate}


@asks_openssl
@settings(max_examples=40, deadline=None)
@given(NAMES)
def test_any_name_is_hashed_as_openssl_does(parts: list[list[Attribute]]) -> None:
    """Whatever a certificate calls its subject, OpenSSL finds the file."""
    certificate = named(*parts)

    assert list(by_subject(certificate)) == [f"{hash_by_openssl(certificate)}.0"]


@asks_openssl
def test_the_folder_is_what_openssl_makes_of_the_bundle(tmp_path: Path) -> None:
    """`openssl rehash` gives every authority of certifi's bundle the same name."""
    files = by_subject(Path(certifi.where()).read_text("utf-8"))
    for number, certificate in enumerate(files.values()):
        (tmp_path / f"{number}.pem").write_text(certificate)

    subprocess.run([str(OPENSSL), "rehash", str(tmp_path)], check=True, capture_output=True)

    links = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_symlink()}
    assert links == files


def test_every_certificate_of_the_bundle_is_in_one_file() -> None:
    """Python's own `ssl` reads the same certificates from the files as from the bundle."""
    bundle = Path(certifi.where()).read_text("utf-8")
    whole = ssl.create_default_context(cadata=bundle).get_ca_certs(binary_form=True)

    files = by_subject(bundle)

    alone = [ssl.PEM_cert_to_DER_cert(certificate) for certificate in files.values()]
    assert sorted(alone) == sorted(whole)
    assert all(text.startswith("-----BEGIN CERTIFICATE-----\n") for text in files.values())
    assert all(text.endswith("\n-----END CERTIFICATE-----\n") for text in files.values())


def test_namesakes_are_numbered() -> None:
    """OpenSSL asks for .0, .1 and so on, in the bundle's order; what is there twice is one file."""
    first, second, other = named(of("Same")), named(of(" same ")), named(of("other"))

    files = by_subject(f"# one\n{first}\n# two\n{second}{other}\n{first}")

    (hashed,) = {name[:8] for name, text in files.items() if text != other}
    assert files[f"{hashed}.0"] == first
    assert files[f"{hashed}.1"] == second
    assert len(files) == 3


def test_comments_are_left_out() -> None:
    """What a bundle says around a certificate is not in its file."""
    certificate = named(of("a"))

    (text,) = by_subject(f"# Issuer: Ü\n# Label: -----\n\n{certificate}\n\n").values()

    assert text == certificate


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
    for name, text in by_subject(
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


def test_without_its_file_an_authority_is_not_trusted(tmp_path: Path) -> None:
    """The folder is all that counts: where the file is missing, the handshake fails."""
    ours, stranger = authority("Ours"), authority("Stranger")
    client = ssl.create_default_context(capath=written(tmp_path, stranger))

    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(serving(ours), client)


def pem(content: bytes) -> str:
    """Whatever, as if it were a certificate."""
    lines = b64encode(content).decode()
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


GOOD = ssl.PEM_cert_to_DER_cert(named(of("a")))


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ("", "holds none"),
        ("# nothing\n", "holds none"),
        (named(of("a"))[:-30], "something besides"),
        (named(of("a")).replace("BEGIN C", "BEGIN TRUSTED C"), "something besides"),
        (named(of("a")) + "-----BEGIN X509 CRL-----\n", "something besides"),
        ("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", "certificate 1 of 1: "),
        (named(of("a")) + pem(b"\x30"), "certificate 2 of 2: it has an element without a length"),
        (pem(b"\x30\x80\x00\x00"), "without a length"),
        (pem(b"\x30\x84\xff"), "too early"),
        (pem(GOOD[:-1]), "too early"),
        (pem(GOOD + b"\x30\x00"), "no subject"),
        (pem(b"\x31\x00"), "an element 0x31 where none belongs"),
        (pem(b"\x30\x00"), "no subject"),
        (pem(b"\x30\x02\x30\x00"), "no subject"),
        (pem(GOOD.replace(b"\x06\x03\x55\x04\x03", b"\x04\x03\x55\x04\x03")), "not made of pairs"),
        (pem(GOOD.replace(b"\x0c\x01a", b"\x0c\x01\xff")), "'utf-8' codec can't decode"),
    ],
)
def test_what_cannot_be_read_is_refused(bundle: str, reason: str) -> None:
    """An authority that OpenSSL would look for in vain is told of, not left out."""
    with pytest.raises(Unreadable, match=reason):
        by_subject(bundle)


def test_an_old_certificate_has_no_version() -> None:
    """Version 1 leaves the field out, and the subject is found all the same."""
    name = encoded(0x30, encoded(0x31, encoded(0x30, b"\x06\x03\x55\x04\x03\x0c\x01a")))
    sequence = encoded(0x30, b"")
    signed = encoded(0x30, b"\x02\x01\x01" + sequence * 3 + name)

    assert list(by_subject(pem(encoded(0x30, signed)))) == list(by_subject(named(of("a"))))
