"""The room over a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.store.store import Store
from tests.metadata.world import Metadata


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Metadata]:
    """Merging and taking over; no lister."""
    store = Store(tmp_path / "state.sqlite")
    yield Metadata(store, None)
    store.close()
