"""A server for the tests of the soak's parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin
