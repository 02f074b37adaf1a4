"""What systemd hands out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.config import SECRET_MAX_BYTES
from cloudfs.errors import ExitCode, UserError
from cloudfs.secrets.credential import CredentialStore


def store(folder: Path) -> CredentialStore:
    return CredentialStore("work", {"CREDENTIALS_DIRECTORY": str(folder)})


@pytest.mark.parametrize("content", ["app-password", "app-password\n"])
async def test_it_is_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "cloudfs-work").write_text(content)
    assert await store(tmp_path).read() == "app-password"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"a\nb", b"x" * (SECRET_MAX_BYTES + 1)])
async def test_what_is_no_password_is_said_and_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cloudfs-work").write_bytes(content)
    with pytest.raises(UserError, match=r"^The systemd credential cloudfs-work is no password\.$") as caught:
        await store(tmp_path).read()
    assert caught.value.code == ExitCode.BAD_CONFIG


async def test_one_that_is_not_handed_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not handed out the credential cloudfs-work: No such file"):
        await store(tmp_path).read()
    with pytest.raises(UserError, match="no unit has started this"):
        await CredentialStore("work", {}).read()
