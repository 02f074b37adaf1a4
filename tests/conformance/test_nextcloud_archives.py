"""protocol.md §5.1: small files of a folder as one zip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav, once
from tests.servers.standin.zips import Member, zipped

MTIME = 1_600_000_001
PATH = "/index.php/apps/files/ajax/download.php"


@pytest.fixture
def folder(cloud: Dav) -> Dav:
    """Three files and a folder with one."""
    for name, content in (("a.txt", b"hello"), ("ü 語[1]", b"world!"), ("empty", b""), ("e2", b"")):
        cloud.put(name, content, X_OC_Mtime=str(MTIME))
    cloud.mkcol("sub")
    cloud.put("sub/in", b"inner", X_OC_Mtime=str(MTIME))
    return cloud


def query(target: Target, cloud: Dav, *names: str) -> Mapping[str, str]:
    home = urlsplit(f"{target.site_url}/remote.php/dav/files/").path
    below = urlsplit(cloud.folder_url).path.removeprefix(home).partition("/")[2]
    return {"dir": "/" + unquote(below).rstrip("/"), "files": json.dumps(names)}


def download(target: Target, cloud: Dav, *names: str) -> httpx.Response:
    return cloud.client.get(target.site_url + PATH, params=query(target, cloud, *names))


def archive(*members: Member, zip64: bool = False) -> bytes:
    return b"".join(zipped(members, zip64=zip64))


def test_a_zip_of_chosen_files_byte_for_byte(nextcloud: Target, folder: Dav) -> None:
    reply = download(nextcloud, folder, "a.txt", "empty", "ü 語[1]")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/zip"
    assert "Content-Length" not in reply.headers
    assert "ETag" not in reply.headers
    assert "OC-ETag" not in reply.headers
    assert reply.content == archive(
        Member("a.txt", MTIME, b"hello"), Member("empty", MTIME), Member("ü 語[1]", MTIME, b"world!")
    )


def test_what_is_not_there_is_left_out(nextcloud: Target, folder: Dav) -> None:
    expected = archive(Member("a.txt", MTIME, b"hello"))
    assert download(nextcloud, folder, "a.txt", "nope").content == expected
    assert download(nextcloud, folder, "no", "nope").content == archive(zip64=True)


def test_nothing_but_empty_files_is_in_the_larger_form(nextcloud: Target, folder: Dav) -> None:
    expected = archive(Member("empty", MTIME), Member("e2", MTIME), zip64=True)
    assert download(nextcloud, folder, "empty", "e2").content == expected


def test_a_folder_comes_with_what_is_in_it(nextcloud: Target, folder: Dav) -> None:
    content = download(nextcloud, folder, "sub", "a.txt").content
    assert b"sub/PK" in content
    assert b"sub/ininnerPK" in content


def test_a_single_file_comes_as_it_is(nextcloud: Target, folder: Dav) -> None:
    reply = download(nextcloud, folder, "a.txt")
    assert (reply.content, reply.headers["Content-Type"]) == (b"hello", "text/plain;charset=UTF-8")


def test_outside_of_the_folder_is_a_page(nextcloud: Target, folder: Dav) -> None:
    reply = download(nextcloud, folder, "../x", "a.txt")
    assert reply.headers["Content-Type"].startswith("text/html")


def test_one_name_twice_is_two_members(nextcloud: Target, folder: Dav) -> None:
    member = Member("a.txt", MTIME, b"hello")
    assert download(nextcloud, folder, "a.txt", "a.txt").content == archive(member, member)


def test_without_login_there_is_none(nextcloud: Target, folder: Dav) -> None:
    params = dict(query(nextcloud, folder, "a.txt", "empty"))
    reply = once("GET", nextcloud.site_url + PATH, params=params)
    assert reply.status_code == 302
    assert "/login?redirect_url=" in reply.headers["Location"]
    assert once("GET", nextcloud.site_url + PATH, params=params, auth=("nobody", "x")).status_code == 401


def test_a_folder_on_the_dav_url_is_a_text(nextcloud: Target, folder: Dav) -> None:
    """On 29: how it is told from 31, which sends an archive."""
    reply = folder.client.get(folder.url(), params={"accept": "zip", "files": '["a.txt"]'})
    assert reply.status_code == 200
    assert reply.text.startswith("This is the WebDAV interface.")
