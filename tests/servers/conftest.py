"""A stand-in for each test, and a client of its account."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.servers import StandIn

TLS = httpx.create_ssl_context()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server
        assert server.failures == []


@pytest.fixture
def client(server: StandIn) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


def client_of(server: StandIn, user: str = "alice") -> httpx.Client:
    """A client below the account's files, with an app password."""
    auth = (user, server.account(user).app_password())
    return httpx.Client(base_url=server.dav_url(user), auth=auth, verify=TLS, timeout=20)
