"""The password as a credential that systemd hands to the unit; nobody else sees it, and we never write it.

SOURCE: systemd.exec(5), LoadCredential=, LoadCredentialEncrypted=, and CREDENTIALS_DIRECTORY.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cloudfs.config import SECRET_MAX_BYTES, SecretKind
from cloudfs.errors import ExitCode, UserError
from cloudfs.secrets.protocol import is_usable

__all__ = ["CredentialStore"]


class CredentialStore:
    """The file $CREDENTIALS_DIRECTORY/cloudfs-ACCOUNT. Who may read it is what systemd has seen to."""

    kind: SecretKind = "credential"

    def __init__(self, account: str, environ: Mapping[str, str] | None = None) -> None:
        self.name = f"cloudfs-{account}"
        self._environ = os.environ if environ is None else environ

    @property
    def place(self) -> str:
        """Where it is."""
        return f"by systemd, as the credential {self.name}"

    @property
    def is_handed_out(self) -> bool:
        """This process was started by a unit with credentials."""
        return bool(self._environ.get("CREDENTIALS_DIRECTORY"))

    async def read(self) -> str:
        """Return the password, without the newline at its end; UserError where systemd has not handed it out."""
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise _bad(f"The password is the systemd credential {self.name}, and no unit has started this.")
        try:
            with (Path(folder) / self.name).open("rb") as file:
                raw = file.read(SECRET_MAX_BYTES + 1)
        except OSError as error:
            raise _bad(f"systemd has not handed out the credential {self.name}: {error.strerror}.") from error
        secret = raw.decode(errors="replace").removesuffix("\n")
        if "\ufffd" in secret or not is_usable(secret):
            raise _bad(f"The systemd credential {self.name} is no password.")
        return secret


def _bad(message: str) -> UserError:
    hint = "docs/CONFIG.md tells how a unit gets it; `cloudfs login --secret-store file` keeps it elsewhere."
    return UserError(message, hint=hint, code=ExitCode.BAD_CONFIG)
