"""The failing network of a soak: what fails is told apart from what does not, and nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.servers import StandIn
from tests.soak.network import Network


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def test_it_fails_until_it_is_calmed(server: StandIn) -> None:
    with Network(f"{server.url}/status.php", "1", haste=200.0) as network:
        assert is_answered(network.url)
        network.fail()
        while is_answered(network.url):
            pass
        assert sum(network.hits.values())
        while not is_answered(network.url):
            pass
        network.calm()
        assert any(is_answered(network.url) for _ in range(3)), "one may have been on its way"
        assert all(is_answered(network.url) for _ in range(20))


def is_answered(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
