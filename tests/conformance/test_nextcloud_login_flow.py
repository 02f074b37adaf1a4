"""protocol.md §11: login flow v2, as a client and a browser see it, and the app password that comes of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import trio

from cloudfs.remote import connect
from cloudfs.remote.loginflow import Granted, LoginFlow
from tests.conformance.conftest import USER_AGENT, Target
from tests.conformance.dav import TLS, once
from tests.servers.browser import Browser

OCS = {"OCS-APIRequest": "true"}


@pytest.fixture
def browser(nextcloud: Target) -> Iterator[Browser]:
    with Browser(nextcloud.site_url) as browser:
        yield browser


def begin(target: Target) -> dict[str, str]:
    """Begin a flow; return its token, and its two addresses as they are reached from here."""
    reply = once("POST", f"{target.site_url}/index.php/login/v2", headers={"User-Agent": USER_AGENT})
    assert reply.status_code == 200
    told = reply.json()
    assert set(told) == {"poll", "login"}
    assert set(told["poll"]) == {"token", "endpoint"}
    made = {"endpoint": told["poll"]["endpoint"], "login": told["login"]}
    return {"token": told["poll"]["token"], **{name: here(target, url) for name, url in made.items()}}


def here(target: Target, url: str) -> str:
    return f"{target.site_url}/{url.partition('://')[2].partition('/')[2]}"


def poll(flow: dict[str, str]) -> httpx.Response:
    return once("POST", flow["endpoint"], data={"token": flow["token"]})


def revoke(target: Target, user: str, app_password: str) -> int:
    url = f"{target.site_url}/ocs/v2.php/core/apppassword?format=json"
    return once("DELETE", url, headers=OCS, auth=(user, app_password)).status_code


class TestTheFlow:
    def test_nobody_has_agreed_yet(self, nextcloud: Target) -> None:
        reply = poll(begin(nextcloud))
        assert (reply.status_code, reply.json()) == (404, [])

    def test_an_unknown_token_is_answered_the_same(self, nextcloud: Target) -> None:
        reply = poll(begin(nextcloud) | {"token": "x" * 128})
        assert (reply.status_code, reply.json()) == (404, [])

    def test_credentials_are_handed_over_once(self, nextcloud: Target, browser: Browser) -> None:
        flow = begin(nextcloud)
        assert browser.grant(flow["login"], nextcloud.user, nextcloud.login_password).status_code == 200
        reply = poll(flow)
        assert reply.status_code == 200
        told = reply.json()
        assert set(told) == {"server", "loginName", "appPassword"}
        assert told["loginName"] == nextcloud.user
        assert (poll(flow).status_code, poll(flow).json()) == (404, [])
        auth = (told["loginName"], told["appPassword"])
        assert once("PROPFIND", nextcloud.root_url, auth=auth, headers={"Depth": "0"}).status_code == 207
        assert revoke(nextcloud, *auth) == 200
        assert once("PROPFIND", nextcloud.root_url, auth=auth, headers={"Depth": "0"}).status_code == 401

    def test_the_page_wants_its_tokens(self, nextcloud: Target, browser: Browser) -> None:
        flow = begin(nextcloud)
        login_page = browser.go(f"{nextcloud.site_url}/login")
        browser.log_in(login_page, nextcloud.user, nextcloud.login_password)
        browser.go(flow["login"])
        grant = f"{nextcloud.site_url}/login/v2/grant"
        assert browser.go(grant, {"stateToken": "x"}).status_code == 412
        assert browser.go(f"{grant}?stateToken=x").status_code == 403
        assert poll(flow).status_code == 404

    def test_an_unknown_flow_is_refused(self, nextcloud: Target, browser: Browser) -> None:
        assert browser.go(f"{nextcloud.site_url}/login/v2/flow/{'x' * 128}").status_code == 403


def test_cloudfs_is_handed_its_app_password(nextcloud: Target, browser: Browser) -> None:
    """The product's own side of the flow, and its logout."""
    tls = TLS

    async def main() -> None:
        base_url = await connect.find_nextcloud(nextcloud.site_url, tls=tls)
        assert base_url == f"{nextcloud.site_url}/"
        flow = await LoginFlow.begin(base_url, "cloudfs conformance", tls=tls)
        assert flow is not None
        assert flow.login_url.startswith(f"{nextcloud.site_url}/login/v2/flow/")
        granted: list[Granted | None] = []

        async def wait() -> None:
            granted.append(await flow.granted())

        async with flow, trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.to_thread.run_sync(
                browser.grant, flow.login_url, nextcloud.user, nextcloud.login_password
            )
        (told,) = granted
        assert told is not None
        assert told.login_name == nextcloud.user
        site = await connect.discover(nextcloud.site_url, told.login_name, told.app_password, tls=tls)
        assert f"/remote.php/dav/files/{site.user_id}/" in site.root_url
        assert await connect.exchange_password(site, told.app_password, "x", tls=tls) == told.app_password
        assert await connect.revoke(site, told.app_password, tls=tls)
        assert not await connect.revoke(site, told.app_password, tls=tls)

    trio.run(main)
