"""Keys, and bytes that only who has them can read or make: what encryption at rest is built on.

One random key of 32 bytes belongs to an account. It seals nothing itself: each purpose, and each staging file, has a
key of its own, derived from it by HKDF-SHA256 (RFC 5869). What is sealed is bound to its place: opened as the bytes of
another place, or with another key, it is refused as damaged bytes are.

The library is loaded with the first key: 7 MB, for those alone who encrypt.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from cloudfs.types import Octets

__all__ = ["KEY_BYTES", "NONCE_BYTES", "TAG_BYTES", "Cipher", "Keys", "Seal", "quick_cipher"]

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random each time. One of 2^32 values sealed with one key shares its nonce with another with a chance of 2^-33."""
TAG_BYTES = 16


class Cipher(Enum):
    """How bytes are sealed; an account keeps the one that it began with, wherever its disk goes."""

    AES = "aes-256-gcm"
    """65 KiB in 10 µs, where the processor helps."""
    CHACHA = "chacha20-poly1305"
    """20 µs, on every processor."""


def quick_cipher(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cipher:
    """Return what is quick on this machine; AES takes ten times as long where the processor does not help."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return Cipher.CHACHA
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return Cipher.AES if "aes" in flags.split() else Cipher.CHACHA


class Seal:
    """Seals and opens with one key; safe between threads."""

    def __init__(self, key: bytes, cipher: Cipher) -> None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305  # noqa: PLC0415

        self._aead = (AESGCM if cipher is Cipher.AES else ChaCha20Poly1305)(key)
        self._refusal = InvalidTag

    def seal(self, data: bytes | memoryview, place: bytes, nonce: bytes) -> bytes:
        """Return the bytes and their tag, bound to `place`. INVARIANT: no nonce is used twice."""
        return self._aead.encrypt(nonce, data, place)

    def seal_into(self, target: memoryview, data: Octets, place: bytes, nonce: bytes) -> None:
        """Do as `seal`, into memory that is there already; half as much work for a MiB where the library can."""
        if hasattr(self._aead, "encrypt_into"):
            self._aead.encrypt_into(nonce, data, place, target)
        else:
            target[:] = self._aead.encrypt(nonce, data, place)

    def open(self, sealed: bytes | memoryview, place: bytes, nonce: bytes) -> bytes | None:
        """Return the bytes, None for any that were not sealed with this key, for this place, and in this order."""
        try:
            return self._aead.decrypt(nonce, sealed, place)
        except self._refusal:
            return None

    def wrap(self, data: bytes, place: bytes) -> bytes:
        """Seal something small in one piece, with its nonce."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self.seal(data, place, nonce)

    def unwrap(self, sealed: bytes, place: bytes) -> bytes | None:
        """Return what `wrap` took; None for anything else."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        return self.open(memoryview(sealed)[NONCE_BYTES:], place, sealed[:NONCE_BYTES])


class Keys:
    """All keys of an account, derived when they are asked for."""

    def __init__(self, key: bytes, cipher: Cipher) -> None:
        """ValueError unless `key` has KEY_BYTES."""
        if len(key) != KEY_BYTES:
            raise ValueError("a key of another length")
        self._key = key
        self.cipher = cipher

    @property
    def check(self) -> str:
        """Names the key without telling it: 32 hex digits, the same for the same key."""
        return self._derive("check")[:16].hex()

    @property
    def database(self) -> bytes:
        """The database's key, as SQLCipher takes it."""
        return self._derive("database")

    def seal(self, purpose: str) -> Seal:
        """Return what seals for one purpose, like `staged 7.3`; 15 µs."""
        return Seal(self._derive(purpose), self.cipher)

    def _derive(self, purpose: str) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        info = f"cloudfs 1 {self.cipher.value} {purpose}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)
