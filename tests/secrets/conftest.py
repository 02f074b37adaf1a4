"""Fixtures of the keyring's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import run
from tests.secrets.session import Desktop

__all__ = ["desktop", "run"]


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """Be in a session with a keyring, and logged in to it."""
    with Desktop() as made:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", made.address)
        made.start_keyring()
        yield made
