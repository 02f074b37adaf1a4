"""Stores for tests that make thousands of little trees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One database per test; closed at its end."""
    store = Store(tmp_path / "state.sqlite")
    yield store
    store.close()
