"""Whom we trust: the system's certificate authorities, and one private one where the account names it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from cloudfs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["GreedyTls", "make_context"]


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


def make_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return a client context with the system's trust plus `ca_file` (PEM).

    Raises UserError where the file cannot be read or holds no certificate. Costs about 20 ms: make it once.
    """
    context = ssl.create_default_context()
    context.sslobject_class = GreedyTls
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"{ca_file}: not a readable file of certificates (PEM)",
            hint="export the certificate of your certificate authority in PEM form",
            code=ExitCode.BAD_CONFIG,
        ) from error
    return context
