"""The servers of the suite, each started once, and a fresh folder on them for each test."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path

import httpx
import pytest

from tests.conformance import traits
from tests.conformance.dav import TIMEOUT_S, TLS, Dav
from tests.conformance.traits import Traits
from tests.servers import (
    Account,
    ApacheServer,
    PlainServer,
    RcloneServer,
    ServerUnavailable,
    StandIn,
    WsgidavServer,
)
from tests.servers.browser import Browser
from tests.tooling.needs import ACCOUNT_VARIABLES, SHARER_VARIABLES, missing

USER_AGENT = "cloudfs-conformance/0"
_OCS = {"OCS-APIRequest": "true"}
DAV_FILES = "/remote.php/dav/files"


@dataclass(frozen=True)
class Share:
    """A folder with `sub/file` in it that another account shares with ours."""

    name: str
    """In our account's root."""
    allow: Callable[[int], None]
    """Sets what we may do in it: 1 read, 2 update, 4 create, 8 delete, 16 share, added up (protocol.md §2)."""


@dataclass(frozen=True)
class Target:
    """A running server. ``root_url`` is the folder the suite may fill, with a trailing slash."""

    name: str
    traits: Traits
    root_url: str
    user: str
    password: str
    site_url: str = ""
    """Nextcloud: scheme, host and port."""
    login_password: str = ""
    """Nextcloud: what a person types into the web form; `password` is an app password."""
    mark_for_wipe: Callable[[str, str], None] = lambda _name, _app_password: None
    """Nextcloud: have the device wiped whose app password has this name in the user's list of devices."""
    share: Callable[[], AbstractContextManager[Share]] | None = None
    """Nextcloud: have another account share a folder with this one."""

    def client(self) -> httpx.Client:
        """A client with its own connections and cookies."""
        auth = httpx.BasicAuth(self.user, self.password)
        return httpx.Client(auth=auth, headers={"User-Agent": USER_AGENT}, verify=TLS, timeout=TIMEOUT_S)


@contextmanager
def _plain(make: Callable[[], PlainServer], name: str, known: Traits) -> Iterator[Target]:
    with make() as server:
        yield Target(name, known, server.url, server.user, server.password)


@contextmanager
def _stand_in() -> Iterator[Target]:
    with StandIn(push=True) as server:
        account = server.account("alice")
        password = account.app_password()
        root = server.dav_url("alice")

        def mark(_: str, app_password: str) -> None:
            account.mark_for_wipe(app_password)

        yield Target(
            "standin",
            traits.NEXTCLOUD,
            root,
            "alice",
            password,
            server.url,
            account.password,
            mark,
            partial(_pretended_share, account),
        )
        assert not server.failures


@contextmanager
def real_account() -> Iterator[Target]:
    """The server of CLOUDFS_TEST_URL; works in a folder of its own, with an app password made for the run."""
    url, user, password_file = (os.environ[name] for name in ACCOUNT_VARIABLES)
    url, password = url.rstrip("/"), Path(password_file).read_text().strip()
    with httpx.Client(headers=_OCS | {"User-Agent": USER_AGENT}, verify=TLS, timeout=TIMEOUT_S) as client:
        reply = client.get(f"{url}/ocs/v2.php/core/getapppassword?format=json", auth=(user, password))
        minted = reply.json()["ocs"]["data"]["apppassword"] if reply.status_code == 200 else None
        auth = (user, minted or password)
        me = client.get(f"{url}/ocs/v2.php/cloud/user?format=json", auth=auth).json()["ocs"]["data"]["id"]
        root = f"{url}/remote.php/dav/files/{me}/conformance-{secrets.token_hex(4)}/"
        client.request("MKCOL", root, auth=auth).raise_for_status()
        try:

            def mark(name: str, _: str) -> None:
                _mark_for_wipe(url, user, password, name)

            yield Target(
                "nextcloud",
                traits.NEXTCLOUD,
                root,
                user,
                minted or password,
                url,
                password,
                mark,
                partial(_real_share, url, me),
            )
        finally:
            client.request("DELETE", root, auth=auth)
            if minted:
                client.delete(f"{url}/ocs/v2.php/core/apppassword", auth=auth)


def share_letters(allowed: int) -> str:
    """Return what may be done in a received share by its number of permissions, as measured (protocol.md §2.2)."""
    told = {1: "SG", 2: "NVW", 4: "CK", 8: "D", 16: "R"}
    return "".join(letters for bit, letters in told.items() if allowed & bit)


@contextmanager
def _pretended_share(account: Account) -> Iterator[Share]:
    name = f"share-{secrets.token_hex(4)}"
    account.populate({f"{name}/sub/file": b"content"})
    account.share_root(f"/{name}", share_letters(31))
    yield Share(name, lambda allowed: account.set_permissions(f"/{name}", share_letters(allowed)))
    account.delete(f"/{name}")


@contextmanager
def _real_share(url: str, receiver: str) -> Iterator[Share]:
    """Share a new folder of the second account; gone afterwards."""
    if not all(map(os.environ.get, SHARER_VARIABLES)):
        pytest.skip(f"only with {', '.join(SHARER_VARIABLES)} set")
    sharer, password_file = (os.environ[name] for name in SHARER_VARIABLES)
    auth = (sharer, Path(password_file).read_text().strip())
    folder = f"{url}/remote.php/dav/files/{sharer}/share-{secrets.token_hex(4)}"
    shares = f"{url}/ocs/v2.php/apps/files_sharing/api/v1/shares"
    with httpx.Client(headers=_OCS, verify=TLS, timeout=TIMEOUT_S, auth=auth) as client:
        for path in (folder, f"{folder}/sub"):
            client.request("MKCOL", path).raise_for_status()
        try:
            client.put(f"{folder}/sub/file", content=b"content").raise_for_status()
            wanted = {
                "path": folder.rpartition("/")[2],
                "shareType": 0,
                "shareWith": receiver,
                "permissions": 31,
            }
            reply = client.post(f"{shares}?format=json", data=wanted).raise_for_status().json()
            number, target = (reply["ocs"]["data"][key] for key in ("id", "file_target"))

            def allow(allowed: int) -> None:
                client.put(f"{shares}/{number}", data={"permissions": allowed}).raise_for_status()

            yield Share(target.strip("/"), allow)
            client.delete(f"{shares}/{number}")
        finally:
            client.request("DELETE", folder)


def _mark_for_wipe(url: str, user: str, password: str, name: str) -> None:
    """Press the button on the page of security settings, as a person does."""
    with Browser(url) as browser:
        browser.log_in(browser.go(f"{url}/login"), user, password)
        page = browser.go(f"{url}/settings/user/security").text
        state = re.search(r'id="initial-state-settings-app_tokens" value="([^"]+)"', page)
        token = re.search(r'data-requesttoken="([^"]+)"', page)
        assert state is not None
        assert token is not None
        (number,) = [it["id"] for it in json.loads(base64.b64decode(state[1])) if it["name"] == name]
        address = f"{url}/settings/personal/authtokens/wipe/{number}"
        browser.client.post(address, headers={"requesttoken": unescape(token[1])}).raise_for_status()


_TARGETS: dict[str, Callable[[], AbstractContextManager[Target]]] = {
    "standin": _stand_in,
    "nextcloud": real_account,
    "wsgidav": lambda: _plain(WsgidavServer, "wsgidav", traits.WSGIDAV),
    "rclone": lambda: _plain(RcloneServer, "rclone", traits.RCLONE),
    "apache": lambda: _plain(ApacheServer, "apache", traits.APACHE),
}


def _params(*names: str) -> list[object]:
    marks = {"nextcloud": pytest.mark.real_nextcloud}
    return [pytest.param(name, marks=marks.get(name, pytest.mark.server(name))) for name in names]


def _running(name: str) -> Iterator[Target]:
    try:
        with _TARGETS[name]() as target:
            yield target
    except ServerUnavailable as error:
        missing(str(error))


@pytest.fixture(scope="session", params=_params("standin", "nextcloud", "wsgidav", "rclone", "apache"))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Every server: for what cloudfs relies on anywhere."""
    yield from _running(request.param)


@pytest.fixture(scope="session", params=_params("standin", "nextcloud"))
def nextcloud(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Nextcloud and the stand-in: for facts of protocol.md."""
    yield from _running(request.param)


@pytest.fixture
def dav(target: Target) -> Iterator[Dav]:
    """A fresh folder on any server."""
    with _fresh_folder(target) as folder:
        yield folder


@pytest.fixture
def cloud(nextcloud: Target) -> Iterator[Dav]:
    """A fresh folder on Nextcloud or the stand-in."""
    with _fresh_folder(nextcloud) as folder:
        yield folder


@pytest.fixture
def received(nextcloud: Target) -> Iterator[tuple[Dav, Share]]:
    """The account's root, and a share in it that another account may edit."""
    assert nextcloud.share is not None
    root_url = (
        f"{nextcloud.site_url}{DAV_FILES}/{nextcloud.root_url.partition(f'{DAV_FILES}/')[2].split('/')[0]}/"
    )
    with nextcloud.share() as share, nextcloud.client() as client:
        yield Dav(client, root_url), share


@contextmanager
def _fresh_folder(target: Target) -> Iterator[Dav]:
    with target.client() as client:
        url = f"{target.root_url}test-{secrets.token_hex(4)}/"
        client.request("MKCOL", url).raise_for_status()
        yield Dav(client, url)
        client.request("DELETE", url)
