"""Whom a connection trusts, and how it shows who it is: over real TLS on this machine."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloudfs.config import Account
from cloudfs.errors import ExitCode, TlsRejected, UserError
from cloudfs.remote.exchange import Request
from cloudfs.remote.tls import context_of, key_digest, make_context
from cloudfs.remote.transport import Transport
from tests.servers.standin.tls import self_signed
from tests.servers.standin.wire import Certificate

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Met(NamedTuple):
    """A server, and the heads of the requests that got through to it."""

    url: str
    heads: list[bytes]


@pytest.fixture(scope="module")
def server_side(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def client_side(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("client"))


def accepting(certificate: Certificate, *, clients: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context


@asynccontextmanager
async def served(context: ssl.SSLContext) -> AsyncIterator[Met]:
    heads: list[bytes] = []

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            heads.append(bytes(await stream.receive_some()))
            await stream.send_all(ANSWER)
        except trio.BrokenResourceError:
            pass  # the other side went away in the handshake

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, answer, 0, context, host="127.0.0.1")
        listeners = await nursery.start(serve)
        name: socket.socket = listeners[0].transport_listener.socket
        yield Met(f"https://127.0.0.1:{name.getsockname()[1]}/", heads)
        nursery.cancel_scope.cancel()


async def ask(url: str, context: ssl.SSLContext) -> None:
    transport = Transport(url, None, tls=context)
    try:
        await transport.fetch(Request("GET", url, "/"), 200)
    finally:
        await transport.aclose()


def pin_of(certificate: Certificate) -> str:
    """Make it as the users of curl are told to, with openssl."""
    key = subprocess.run(
        ["openssl", "x509", "-in", certificate.certificate, "-pubkey", "-noout"],
        check=True,
        capture_output=True,
    ).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"], input=key, check=True, capture_output=True
    ).stdout
    digest = subprocess.run(
        ["openssl", "dgst", "-sha256", "-binary"], input=der, check=True, capture_output=True
    ).stdout
    return "sha256//" + base64.b64encode(digest).decode()


async def test_the_pinned_key_is_the_one(server_side: Certificate, client_side: Certificate) -> None:
    """One of several, as while a key is being replaced."""
    pins = [pin_of(client_side), pin_of(server_side)]
    async with served(accepting(server_side)) as met:
        await ask(met.url, make_context(server_side.certificate, pinned_keys=pins))
        assert len(met.heads) == 1


async def test_another_key_is_met_with_silence(server_side: Certificate, client_side: Certificate) -> None:
    """However well its certificate is trusted: no request is sent, so no password either."""
    context = make_context(server_side.certificate, pinned_keys=[pin_of(client_side)])
    async with served(accepting(server_side)) as met:
        with pytest.raises(TlsRejected, match="none of the pinned"):
            await ask(met.url, context)
        assert met.heads == [] or met.heads == [b""]


async def test_a_pinned_key_still_has_to_be_trusted(server_side: Certificate) -> None:
    async with served(accepting(server_side)) as met:
        with pytest.raises(TlsRejected, match=r"self.signed"):
            await ask(met.url, make_context(pinned_keys=[pin_of(server_side)]))


def signed(folder: Path, address: str, valid_until: datetime) -> Certificate:
    """Make a certificate that signs itself, as whoever trusts it would have to find fault with something else."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(valid_until - timedelta(days=2)).not_valid_after(valid_until)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=True
    )
    made = Certificate(folder / "made.pem", folder / "made.key")
    made.certificate.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return made


@pytest.mark.parametrize(
    ("address", "left_days", "fault"),
    [("127.0.0.1", 1, None), ("127.0.0.1", -1, "expired"), ("127.0.0.2", 1, "mismatch")],
    ids=["as it should be", "over", "another server's"],
)
async def test_a_certificate_is_good_for_one_server_and_one_time(
    address: str, left_days: int, fault: str | None, tmp_path: Path
) -> None:
    """Pinned and trusted as it is: nothing is sent where it is over, or another server's."""
    made = signed(tmp_path, address, datetime.now(UTC) + timedelta(days=left_days))
    context = make_context(made.certificate, pinned_keys=[pin_of(made)])
    async with served(accepting(made)) as met:
        if fault is None:
            await ask(met.url, context)
        else:
            with pytest.raises(TlsRejected, match=fault):
                await ask(met.url, context)
        assert len([head for head in met.heads if head]) == (0 if fault else 1)


@pytest.mark.parametrize(
    "pin", ["", "sha256//", "sha256//AAAA", "md5//" + "A" * 43 + "=", "sha256//" + "!" * 44]
)
def test_what_is_no_pin(pin: str) -> None:
    with pytest.raises(UserError, match="not the pin of a key") as caught:
        make_context(pinned_keys=[pin])
    assert caught.value.code is ExitCode.BAD_CONFIG


async def test_a_server_that_wants_a_certificate(server_side: Certificate, client_side: Certificate) -> None:
    wanting = accepting(server_side, clients=client_side)
    account = Account(
        url="https://x/",
        user="u",
        ca_file=str(server_side.certificate),
        client_certificate=str(client_side.certificate),
        client_key=str(client_side.key),
    )
    async with served(wanting) as met:
        await ask(met.url, context_of(account))
        assert len(met.heads) == 1


async def test_certificate_and_key_in_one_file(
    server_side: Certificate, client_side: Certificate, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(client_side.certificate.read_bytes() + client_side.key.read_bytes())
    async with served(accepting(server_side, clients=client_side)) as met:
        await ask(met.url, make_context(server_side.certificate, client_certificate=both))
        assert len(met.heads) == 1


def test_a_key_with_a_passphrase_is_an_error_and_no_question(
    client_side: Certificate, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.pem"
    command = [
        "openssl",
        "pkey",
        "-in",
        str(client_side.key),
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(UserError, match="not a readable file of a certificate with its key"):
        make_context(client_certificate=client_side.certificate, client_key=locked)


@pytest.mark.parametrize("is_key", [True, False])
def test_the_address_of_a_token_is_no_file(client_side: Certificate, *, is_key: bool) -> None:
    token = Path("/home/jo/pkcs11:token=t;object=k")
    with pytest.raises(UserError) as caught:
        make_context(
            client_certificate=client_side.certificate if is_key else token,
            client_key=token if is_key else None,
        )
    assert "a token's address" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_client_certificate_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"client\.pem"):
        make_context(client_certificate=file)


async def test_old_versions_are_refused(server_side: Certificate) -> None:
    old = accepting(server_side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    context = make_context(server_side.certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")  # it is the version that they do not agree on
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    async with served(old) as met:
        with pytest.raises(Exception, match="encrypted"):
            await ask(met.url, context)
        assert met.heads == []


def test_the_digest_is_of_the_key_alone(server_side: Certificate) -> None:
    der = ssl.PEM_cert_to_DER_cert(server_side.certificate.read_text())
    assert "sha256//" + base64.b64encode(key_digest(der)).decode() == pin_of(server_side)
