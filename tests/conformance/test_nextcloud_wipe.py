"""protocol.md §11: a device that was marked for a remote wipe, as the server tells it."""

from __future__ import annotations

import secrets

import httpx
import trio

from cloudfs.remote import anonymous
from tests.conformance.conftest import Target
from tests.conformance.dav import TLS, once


def new_app_password(target: Target) -> tuple[str, str]:
    """Return an app password of its own, and its name in the user's list of devices."""
    name = f"cloudfs conformance {secrets.token_hex(4)}"
    url = f"{target.site_url}/ocs/v2.php/core/getapppassword?format=json"
    headers = {"OCS-APIRequest": "true", "User-Agent": name}
    reply = once("GET", url, headers=headers, auth=(target.user, target.login_password))
    return reply.json()["ocs"]["data"]["apppassword"], name


def ask(target: Target, what: str, app_password: str) -> httpx.Response:
    return once("POST", f"{target.site_url}/index.php/core/wipe/{what}", data={"token": app_password})


def asks_for_wipe(target: Target, app_password: str) -> bool:
    return trio.run(anonymous.asks_for_wipe, f"{target.site_url}/", app_password, TLS)


def test_a_device_that_was_marked(nextcloud: Target) -> None:
    app_password, name = new_app_password(nextcloud)
    assert not asks_for_wipe(nextcloud, app_password)
    nextcloud.mark_for_wipe(name, app_password)
    reply = once("PROPFIND", nextcloud.root_url, auth=(nextcloud.user, app_password), headers={"Depth": "0"})
    assert reply.status_code == 401
    reply = ask(nextcloud, "check", app_password)
    assert (reply.status_code, reply.json()) == (200, {"wipe": True})
    assert asks_for_wipe(nextcloud, app_password)
    reply = ask(nextcloud, "success", app_password)
    assert (reply.status_code, reply.json()) == (200, [])
    for question in ("check", "success"):
        reply = ask(nextcloud, question, app_password)
        assert (reply.status_code, reply.json()) == (404, [])


def test_a_password_that_nobody_has(nextcloud: Target) -> None:
    reply = ask(nextcloud, "check", "x" * 72)
    assert (reply.status_code, reply.json()) == (404, [])
    assert not asks_for_wipe(nextcloud, "x" * 72)


def test_how_the_server_is(nextcloud: Target) -> None:
    health = trio.run(anonymous.health, f"{nextcloud.site_url}/", TLS)
    assert health is not None
    assert not health.maintenance
    assert not health.upgrade
