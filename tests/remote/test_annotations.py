"""What people attach to files, and no ETag tells of."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from cloudfs.errors import NotFound, ProtocolViolation
from cloudfs.remote.attached import annotations_in
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.types import Annotations, RemotePath
from tests.remote.conftest import store
from tests.servers import StandIn, WsgidavServer

FILE = RemotePath("/f")

MEASURED = """<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns"
 xmlns:nc="http://nextcloud.org/ns"><d:response><d:href>/remote.php/dav/files/alice/d1/</d:href><d:propstat><d:prop>
<oc:favorite>1</oc:favorite><oc:tags><oc:tag>to do</oc:tag><oc:tag>work</oc:tag></oc:tags><nc:system-tags>
<nc:system-tag oc:can-assign="true" oc:id="1" oc:user-assignable="true" oc:user-visible="true">needs review
</nc:system-tag></nc:system-tags><nc:sharees><nc:sharee><nc:id>bob</nc:id><nc:display-name>bob</nc:display-name>
<nc:type>0</nc:type></nc:sharee><nc:sharee><nc:id/><nc:display-name/><nc:type>3</nc:type></nc:sharee></nc:sharees>
<oc:owner-display-name>alice</oc:owner-display-name><oc:comments-count>12</oc:comments-count>
<oc:comments-unread>2</oc:comments-unread></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>
</d:multistatus>"""


def test_as_measured() -> None:
    assert annotations_in(MEASURED.encode()) == Annotations(
        favorite=True,
        tags=("to do", "work", "needs review"),
        shared_with=("bob", "a link"),
        owner="alice",
        comments=12,
        unread_comments=2,
    )


def test_apps_that_are_not_installed() -> None:
    """Their properties come empty, with 404."""
    body = MEASURED.replace("200 OK", "404 Not Found")
    names = ("oc:favorite", "oc:comments-count", "oc:comments-unread", "oc:owner-display-name")
    for name in names:
        start, end = body.index(f"<{name}>"), body.index(f"</{name}>")
        body = body[:start] + f"<{name}>" + body[end:]
    for name in ("oc:tags", "nc:system-tags", "nc:sharees"):
        start, end = body.index(f"<{name}>"), body.index(f"</{name}>")
        body = body[:start] + f"<{name}>" + body[end:]
    assert annotations_in(body.encode()) == Annotations()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Sign in</body></html>",
        MEASURED.encode()[:-30],
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>",
    ],
)
def test_no_answer(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        annotations_in(body)


@pytest.mark.server("standin")
async def test_asked_of_a_server() -> None:
    with StandIn() as standin:
        account = standin.account("alice")
        account.write("/f", b"content")
        remote = WebdavRemote(await discover(standin.url, "alice", account.password), account.password)
        try:
            assert await remote.annotations(FILE) == Annotations(owner="alice")
            account.set_favorite("/f")
            account.annotate(
                "/f", system_tags=["done"], sharees=[("bob", 0), ("staff", 1), ("", 3)], comments=1
            )
            assert await remote.annotations(FILE) == Annotations(
                favorite=True,
                tags=("done",),
                shared_with=("bob", "group staff", "a link"),
                owner="alice",
                comments=1,
            )
            with pytest.raises(NotFound):
                await remote.annotations(RemotePath("/absent"))
        finally:
            await remote.aclose()


@pytest.mark.server("wsgidav")
async def test_a_plain_server_knows_no_such_thing() -> None:
    with WsgidavServer() as server:
        remote = WebdavRemote(await discover(server.url, server.user, server.password), server.password)
        try:
            assert await remote.annotations(FILE) is None
        finally:
            await remote.aclose()


class _Real:
    """A file on a real server, and what other clients do with it."""

    def __init__(self) -> None:
        self.url, self.user = os.environ["CLOUDFS_TEST_URL"].rstrip("/"), os.environ["CLOUDFS_TEST_USER"]
        self.password = Path(os.environ["CLOUDFS_TEST_PASSWORD_FILE"]).read_text().strip()
        self.path = RemotePath(f"/annotated {secrets.token_hex(4)}")
        self.client = httpx.Client(
            auth=(self.user, self.password), headers={"OCS-APIRequest": "true"}, timeout=60
        )

    def attach(self) -> None:
        """Mark, tag and share it."""
        marked = (
            '<d:propertyupdate xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:set><d:prop>'
            "<oc:favorite>1</oc:favorite><oc:tags><oc:tag>to do</oc:tag></oc:tags>"
            "</d:prop></d:set></d:propertyupdate>"
        )
        dav = f"{self.url}/remote.php/dav/files/{self.user}{self.path}"
        self.client.request("PROPPATCH", dav, content=marked).raise_for_status()
        shares = f"{self.url}/ocs/v2.php/apps/files_sharing/api/v1/shares"
        self.client.post(shares, data={"path": self.path, "shareType": "3"}).raise_for_status()


@pytest.fixture
def real() -> Iterator[_Real]:
    made = _Real()
    with made.client:
        yield made


@pytest.mark.real_nextcloud
async def test_asked_of_a_real_server(real: _Real) -> None:
    remote = WebdavRemote(await discover(real.url, real.user, real.password), real.password)
    try:
        await store(remote, real.path, b"content")
        assert await remote.annotations(real.path) == Annotations(owner=real.user)
        await trio.to_thread.run_sync(real.attach)
        assert await remote.annotations(real.path) == Annotations(
            favorite=True, tags=("to do",), shared_with=("a link",), owner=real.user
        )
    finally:
        await remote.delete(real.path)
        await remote.aclose()
