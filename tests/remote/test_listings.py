"""Whole listings through a session: what cannot be shown is told to the caller, and to people."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import ProtocolViolation, Unsupported
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.listings import Branches
from cloudfs.remote.protocol import Features
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion
from tests.remote.test_multistatus import FOLDER, multistatus, response

ROOT = RemotePath("/")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


def remote_with(*members: str) -> WebdavRemote:
    body = multistatus(response("/dav/", FOLDER), *members)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            207, content=pieces(body), headers={"Content-Type": "application/xml; charset=utf-8"}
        )

    site = Site("http://h/dav/", "jo", Features(name="WebDAV"))
    return WebdavRemote(site, "secret", wire=lambda _lane: httpx.MockTransport(answer))


async def test_a_folder_tells_how_many_members_it_hides() -> None:
    remote = remote_with(response("/dav/a"))
    own, members = await remote.list_folder(ROOT)
    assert (own.hidden_members, len(members)) == (0, 1)
    await remote.aclose()


async def test_hidden_members_are_warned_of_seldom(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, expect_log: object
) -> None:
    del autojump_clock
    assert callable(expect_log)
    expect_log(r"/: 2 of its members .* '/dav/bad%ff'")
    remote = remote_with(response("/dav/bad%ff"), response("/dav/a%2fb"), response("/dav/a"))
    for _ in range(10):
        own, members = await remote.list_folder(ROOT)
        assert (own.hidden_members, [member.path for member in members]) == (2, ["/a"])
    assert len(caplog.records) == 1
    await trio.sleep(3601)
    await remote.list_folder(ROOT)
    assert len(caplog.records) == 2
    await remote.aclose()


@pytest.mark.parametrize("what", ["<!DOCTYPE x>", "<a>", "<a b>"])
async def test_a_reply_that_cannot_be_read_tells_of_which_folder(what: str) -> None:
    remote = remote_with(what)
    with pytest.raises(ProtocolViolation) as caught:
        await remote.list_folder(ROOT)
    assert caught.value.subject == ROOT
    await remote.aclose()


def folder(path: str, permissions: str = "RGDNVCK", *, mount_root: bool = False) -> RemoteEntry:
    version = RemoteVersion("", 0, 0)
    return RemoteEntry(RemotePath(path), Kind.FOLDER, version, permissions=permissions, mount_root=mount_root)


def file(path: str) -> RemoteEntry:
    return RemoteEntry(RemotePath(path), Kind.FILE, RemoteVersion("", 1, 0))


def whole(*entries: RemoteEntry, root: str = "/") -> dict[str, list[str]]:
    """Return the folders of a tree, as listed, of which all members are sure to be there."""
    branches = Branches(RemotePath(root))
    for entry in entries:
        branches.add(entry)
    return {own.path: [member.path for member in members] for own, members in branches.whole()}


def test_a_tree_is_sorted_by_folder_in_whatever_order_it_comes() -> None:
    entries = [file("/a/b/c"), file("/d"), folder("/a/b"), folder("/a"), folder("/")]
    assert whole(*entries) == {"/": ["/d", "/a"], "/a": ["/a/b"], "/a/b": ["/a/b/c"]}


def test_a_tree_below_the_root_counts_its_levels_from_there() -> None:
    entries = [folder("/x"), folder("/x/a"), file("/x/a/f"), folder("/x/e")]
    assert whole(*entries, root="/x") == {"/x": ["/x/a", "/x/e"], "/x/a": ["/x/a/f"], "/x/e": []}


def test_a_tree_with_gaps_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        whole(folder("/"), file("/a/b"))
    with pytest.raises(ProtocolViolation):
        whole(folder("/x/a"), file("/x/a/f"), root="/x")


def test_one_level_in_place_of_a_tree_is_no_tree() -> None:
    """Nothing tells it from folders that are all empty, so nobody's emptiness is believed."""
    with pytest.raises(Unsupported):
        whole(folder("/"), folder("/a"), folder("/b"), file("/f"))
    assert whole(folder("/"), file("/f")) == {"/": ["/f"]}


def test_a_file_is_no_tree() -> None:
    with pytest.raises(Unsupported):
        whole(file("/x"), root="/x")


def test_an_empty_folder_is_believed_only_above_the_deepest_level_shown() -> None:
    """A server may go down so many levels and no further, and not say so."""
    entries = [folder("/"), folder("/a"), folder("/a/b"), folder("/a/c"), file("/a/c/f"), folder("/e")]
    assert set(whole(*entries)) == {"/", "/a", "/a/b", "/a/c", "/e"}
    assert set(whole(*entries[:4], folder("/e"))) == {"/", "/a", "/e"}


def test_what_is_mounted_from_elsewhere_is_not_taken_from_a_tree() -> None:
    external, below = folder("/ext", "RGDNVMCK", mount_root=True), folder("/ext/a", "RGDNVMCK")
    share = folder("/share", "SRGDNVCK", mount_root=True)
    asleep = folder("/asleep", "SRGDNVCK", mount_root=True)
    entries = [folder("/"), external, below, file("/ext/a/f"), share, folder("/share/b"), asleep]
    assert whole(*entries) == {"/": ["/ext", "/share", "/asleep"], "/share": ["/share/b"], "/share/b": []}


@pytest.mark.parametrize("size", ["-1", "-2"])
async def test_a_file_of_unknown_size_is_left_out_and_named(size: str) -> None:
    unsized = response("/dav/b", f"<d:resourcetype/><d:getcontentlength>{size}</d:getcontentlength>")
    remote = remote_with(response("/dav/a"), unsized)
    own, members = await remote.list_folder(ROOT)
    assert (own.unsized, own.hidden_members, [member.name for member in members]) == (("b",), 1, ["a"])
    await remote.aclose()
