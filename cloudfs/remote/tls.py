"""Whom we trust: the system's certificate authorities, a private one, pinned keys; and how we show who we are."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cloudfs.config import Trust
from cloudfs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["GreedyTls", "context_of", "key_digest", "make_context"]


class GreedyTls(ssl.SSLObject):
    """TLS whose read returns all records that have arrived, not one of at most 16 KiB.

    Every read costs a turn of the event loop and of the HTTP parser: see `wire` for what this saves. A subclass
    is what `SSLContext.sslobject_class` is there for.
    """

    def read(self, len: int = 1024, buffer: Buffer | None = None) -> bytes:  # noqa: A002  # the name it has there
        """Return up to `len` bytes; raises as SSLObject.read does when not even one record is complete."""
        first = super().read(len, buffer)
        if buffer is not None:
            return first  # how many bytes went into it: the other way of calling, which trio does not use
        records = [first]
        wanted = len - first.__len__()
        while records[-1] and wanted > 0:
            try:
                records.append(super().read(wanted))
            except ssl.SSLError:
                break  # nothing more yet; an error shows again at the next read
            wanted -= records[-1].__len__()
        return b"".join(records)


class _PinnedTls(GreedyTls):
    """TLS that ends with the handshake where the server's key is not pinned: nothing was sent by then.

    Connections are made by their context, so each context has a subclass of its own with its pins.
    """

    pins: frozenset[bytes] = frozenset()

    def do_handshake(self) -> None:
        """Raise SSLCertVerificationError, and else what SSLObject's own raises."""
        super().do_handshake()
        certificate = self.getpeercert(binary_form=True)
        if certificate is None or key_digest(certificate) not in self.pins:
            error = ssl.SSLCertVerificationError("its key is none of the pinned ones")
            error.verify_message = str(error)
            raise error


def make_context(
    ca_file: Path | None = None,
    *,
    client_certificate: Path | None = None,
    client_key: Path | None = None,
    pinned_keys: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return a client context for TLS 1.2 and later, with the system's trust plus `ca_file` (PEM).

    `client_certificate` (PEM) is shown to a server that asks; its key is in `client_key`, or in the same file, and has
    no passphrase. With `pinned_keys` (curl's "sha256//BASE64", SOURCE: RFC 7469, section 2.4) the server's certificate
    has to have one of these keys, and to be trusted as well.

    Raises UserError where a file cannot be read or holds nothing such, or a pin is none. Costs about 20 ms.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = GreedyTls
    if ca_file is not None:
        with _explained(
            ca_file, "certificates", "export the certificate of your certificate authority in PEM form"
        ):
            context.load_verify_locations(cafile=ca_file)
    if client_certificate is not None:
        hint = "it and its key have to be in PEM form, the key without a passphrase and readable by you"
        if any(file and file.name.startswith("pkcs11:") for file in (client_certificate, client_key)):
            hint = "a token's address cannot stand in the place of a file: docs/SECURITY.md tells which file names it"
        with _explained(client_certificate, "a certificate with its key", hint):
            context.load_cert_chain(client_certificate, client_key, password=_no_passphrase)
    if pinned_keys:
        context.sslobject_class = type(
            "_PinnedTls", (_PinnedTls,), {"pins": frozenset(map(_pin, pinned_keys))}
        )
    return context


def context_of(trust: Trust) -> ssl.SSLContext:
    """Return the context for an account, as its file says; raises as `make_context` does."""
    return make_context(
        _path(trust.ca_file),
        client_certificate=_path(trust.client_certificate),
        client_key=_path(trust.client_key),
        pinned_keys=trust.pinned_keys,
    )


def key_digest(certificate: bytes) -> bytes:
    """Return the SHA-256 of the public key (SubjectPublicKeyInfo) of a certificate in DER."""
    # 60 ms and some MB, for those alone who pin.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    key = x509.load_der_x509_certificate(certificate).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _pin(text: str) -> bytes:
    with suppress(ValueError):
        digest = base64.b64decode(text.removeprefix("sha256//"), validate=True)
        if text.startswith("sha256//") and len(digest) == hashlib.sha256().digest_size:
            return digest
    raise UserError(
        f"{text[:80]}: not the pin of a key",
        hint="a pin is sha256// and 44 characters, as `curl --pinnedpubkey` takes it",
        code=ExitCode.BAD_CONFIG,
    )


def _no_passphrase() -> str:
    """Answer instead of OpenSSL's own question on the terminal, which a daemon would wait for."""
    return ""


@contextmanager
def _explained(file: Path, what: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"{file}: not a readable file of {what} (PEM)", hint=hint, code=ExitCode.BAD_CONFIG
        ) from error


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
