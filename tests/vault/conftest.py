"""Fixtures of the vault's tests."""

from __future__ import annotations

from tests.cli.conftest import folders, run
from tests.secrets.conftest import desktop

__all__ = ["desktop", "folders", "run"]
