"""The sixteen rules of protocol.md §0: the server's side of each, a case each, on the stand-in and on a real Nextcloud.

That cloudfs obeys them is tests/remote/test_rules.py; finer cases of single paragraphs are in the files beside this.

What cannot be a case here, since it is not the application's doing or is no fact of a reply:
- Rule 1, what a login password costs: a time, and of the server's machine. The case shows the way out of it.
- Rule 3, the seconds that each logging out and in costs; the case shows that it happens.
- Rule 4, what a tree costs: figures are in docs/PERFORMANCE.md.
- Rules 6 and 7, a cut file and an empty one: done by front ends that hand a body through as it comes, and both servers
  here buffer it. The cases show what is relied on instead: pieces, and a length that is told. What the other front end
  does is in tests/servers/test_uploads_cut.py, on a stand-in without buffering.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav, cut_put, exception_of, once
from tests.conformance.test_nextcloud_uploads import assemble, upload

__all__ = ["upload"]  # the fixture

OCS = {"OCS-APIRequest": "true"}
MTIME_S = 1_600_000_000
FIRST = "SHA1:" + hashlib.sha1(b"first", usedforsecurity=False).hexdigest()
OTHER = "SHA1:" + hashlib.sha1(b"other", usedforsecurity=False).hexdigest()
LOCKED_BYTES = 32 * 1024 * 1024
"""More than sockets and the web server take of a reply that nobody reads."""


def test_rule_01_an_app_password_is_had_for_the_login_password(nextcloud: Target) -> None:
    url = f"{nextcloud.site_url}/ocs/v2.php/core"
    asked = f"{url}/getapppassword?format=json"
    reply = once("GET", asked, headers=OCS, auth=(nextcloud.user, nextcloud.login_password))
    auth = (nextcloud.user, reply.json()["ocs"]["data"]["apppassword"])
    try:
        assert once("PROPFIND", nextcloud.root_url, headers={"Depth": "0"}, auth=auth).status_code == 207
        assert once("GET", asked, headers=OCS, auth=auth).status_code == 403
    finally:
        assert once("DELETE", f"{url}/apppassword", headers=OCS, auth=auth).status_code == 200


@pytest.fixture
def session(nextcloud: Target) -> str:
    """The cookies of one that has just begun."""
    with nextcloud.client() as client:
        client.request("PROPFIND", nextcloud.root_url, headers={"Depth": "0"}).raise_for_status()
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def test_rule_02_a_session_cookie_beats_the_authorization(nextcloud: Target, session: str) -> None:
    headers = {"Cookie": session, "Depth": "0"}
    reply = once("PROPFIND", nextcloud.root_url, auth=("nobody", "wrong"), headers=headers)
    assert reply.status_code == 207


def test_rule_03_bulk_ends_the_session_that_comes_with_it(
    nextcloud: Target, cloud: Dav, session: str
) -> None:
    headers = {"Cookie": session, "Depth": "0"}
    assert once("PROPFIND", nextcloud.root_url, headers=headers).status_code == 207
    path = cloud.folder_url.partition("/remote.php/dav/files/")[2].partition("/")[2]
    md5 = hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    part = f"X-File-Path: /{path}f\r\nX-File-MD5: {md5}\r\nContent-Length: 1\r\n\r\nx\r\n"
    reply = once(
        "POST",
        f"{nextcloud.site_url}/remote.php/dav/bulk",
        content=f"--B\r\n{part}--B--\r\n",
        headers={"Content-Type": "multipart/related; boundary=B", "Cookie": session},
        auth=(nextcloud.user, nextcloud.password),
    )
    assert (reply.status_code, cloud.get("f").content) == (200, b"x")
    assert once("PROPFIND", nextcloud.root_url, headers=headers).status_code == 401


def test_a_session_speaks_without_the_password(cloud: Dav, session: str) -> None:
    """protocol.md §11, what `remote.identity` relies on; rule 3's test shows that one which has ended does not."""
    url, headers = f"{cloud.folder_url}f", {"Cookie": session, "OCS-APIRequest": "true"}
    assert once("PUT", url, headers=headers, content=b"x").status_code == 201
    assert once("GET", url, headers=headers).content == b"x"
    assert once("MOVE", url, headers=headers | {"Destination": f"{url}2"}).status_code == 201
    assert once("DELETE", f"{url}2", headers=headers).status_code == 204


def test_rule_04_one_request_lists_a_whole_tree(cloud: Dav) -> None:
    folders = ("", "a", "a/b", "a/b/c", "d")
    for path in folders[1:]:
        cloud.mkcol(path)
        cloud.put(f"{path}/file")
    names = ("d:resourcetype", "d:getetag", "oc:fileid", "oc:permissions", "oc:size")
    one_by_one: dict[str, Mapping[str, str]] = {}
    for path in folders:
        one_by_one |= {at: entry.found for at, entry in cloud.listing(path, *names).items()}
    whole = cloud.listing("", *names, depth="infinity")
    assert {at: entry.found for at, entry in whole.items()} == one_by_one


def test_rule_05_two_contents_have_one_etag_and_checksums_tell(cloud: Dav) -> None:
    first = cloud.put("f", b"first", X_OC_Mtime=str(MTIME_S), OC_Checksum=FIRST).headers["ETag"]
    assert cloud.put("f", b"other", X_OC_Mtime=str(MTIME_S), OC_Checksum=OTHER).headers["ETag"] == first
    assert cloud.stat("f", "oc:checksums").found["oc:checksums"] == f"oc:checksum={OTHER}"
    assert cloud.put("f", b"third", X_OC_Mtime=str(MTIME_S + 1)).headers["ETag"] != first


def test_rule_06_pieces_leave_a_file_whole_until_they_are_put_together(cloud: Dav, upload: Dav) -> None:
    before = cloud.put("f", b"old content", X_OC_Mtime=str(MTIME_S)).headers
    upload.put("1", b"new ")
    cut_put(upload, "2", b"half a piece", announced_bytes=5_000_000)
    untouched = cloud.get("f")
    assert (untouched.content, untouched.headers["ETag"]) == (b"old content", before["ETag"])
    upload.put("2", b"content, longer")
    reply = assemble(upload, cloud, OC_Total_Length="19")
    assert (reply.status_code, reply.headers["OC-FileId"]) == (204, before["OC-FileId"])
    assert cloud.get("f").content == b"new content, longer"


def test_rule_07_a_body_whose_length_is_told_is_stored_whole(cloud: Dav) -> None:
    """Of one that is cut nothing is made. That a front end may make nothing of one without a length: see above."""
    body = b"x" * 1_200_000
    reply = cloud.request("PUT", "f", content=body)
    assert reply.request.headers["Content-Length"] == str(len(body))
    assert cloud.stat("f").found["d:getcontentlength"] == str(len(body))
    cut_put(cloud, "cut", body[:1000], announced_bytes=len(body))
    assert cloud.get("cut").status_code == 404


def test_rule_08_a_move_deletes_what_is_in_its_way_unless_told_not_to(cloud: Dav) -> None:
    for name in ("a", "b"):
        cloud.mkcol(name)
    cloud.put("b/precious")
    assert cloud.transfer("MOVE", "a", "b", Overwrite="F").status_code == 412
    assert cloud.transfer("MOVE", "a", "b").status_code == 204
    assert set(cloud.listing("b")) == {"b/"}
    target = cloud.put("target").headers["OC-FileId"]
    cloud.put("temporary", b"new")
    assert cloud.put("target", b"new").headers["OC-FileId"] == target
    moved = cloud.transfer("MOVE", "temporary", "target")
    assert (moved.status_code, moved.headers["OC-FileId"] == target) == (204, False)


def test_rule_09_if_is_about_the_target_of_pieces_and_if_match_is_not(cloud: Dav, upload: Dav) -> None:
    current = cloud.put("f", b"old").headers["ETag"]
    upload.put("1", b"new")
    url = cloud.url("f")
    assert assemble(upload, cloud, If_Match=current).status_code == 412
    assert assemble(upload, cloud, If=f'<{url}> (["stale"])').status_code == 412
    assert assemble(upload, cloud, Overwrite="F").status_code == 412
    assert cloud.get("f").content == b"old"
    assert assemble(upload, cloud, If=f"<{url}> ([{current}])").status_code == 204


def test_rule_10_the_first_byte_alone_cannot_be_asked_for(cloud: Dav) -> None:
    cloud.put("f", b"content")
    cloud.put("empty", b"")
    assert cloud.get("f", Range="bytes=0-0").content == b"content"
    assert cloud.get("f", Range="bytes=0-1").content == b"co"
    assert cloud.request("HEAD", "f", Range="bytes=0-1").status_code == 500
    assert cloud.get("empty", Range="bytes=0-1").status_code == 200


def test_rule_11_a_time_of_the_first_day_is_an_error_and_the_file_is_written(cloud: Dav) -> None:
    for number, mtime in enumerate(("0", "86400", "-1")):
        assert cloud.request("PUT", f"f{number}", content=b"data", X_OC_Mtime=mtime).status_code == 500
        assert cloud.get(f"f{number}").content == b"data"
    cloud.put("g", X_OC_Mtime="86401")
    assert cloud.stat("g").found["d:getlastmodified"] == "Fri, 02 Jan 1970 00:00:01 GMT"


def test_rule_12_part_names_are_phantoms(cloud: Dav) -> None:
    assert cloud.request("PUT", "x.part", content=b"1").status_code == 423
    assert cloud.propfind("never.part").status_code == 207
    cloud.put("f", b"content")
    assert cloud.transfer("MOVE", "f", "f.part").status_code == 204
    assert "f.part" not in cloud.listing()
    assert cloud.get("f.part").content == b"content"


def test_rule_13_one_display_name_spoils_a_listing_and_hrefs_do_not(cloud: Dav) -> None:
    cloud.put("\ufffe")
    cloud.put("plain")
    with pytest.raises(ET.ParseError):
        cloud.listing("", "d:displayname")
    assert set(cloud.listing("", "d:getetag")) == {"", "\ufffe", "plain"}


def test_rule_14_moving_a_file_that_is_being_read_is_500(cloud: Dav) -> None:
    """And a PUT is 423: whoever reads it."""
    cloud.put("f", bytes(LOCKED_BYTES))
    with cloud.client.stream("GET", cloud.url("f"), headers={"Accept-Encoding": "identity"}) as reading:
        body = reading.iter_raw(1024)  # held: the connection ends with it
        next(body)
        moved = cloud.transfer("MOVE", "f", "g", Overwrite="F")
        assert (moved.status_code, exception_of(moved)) == (500, "OCP\\Lock\\LockedException")
        assert cloud.request("PUT", "f", content=b"new").status_code == 423
    assert set(cloud.listing()) == {"", "f"}


def test_rule_15_what_was_sent_is_done_though_nobody_waits_for_the_answer(cloud: Dav) -> None:
    cut_put(cloud, "f", b"first", announced_bytes=5, OC_Checksum=FIRST)
    for _ in range(300):
        if cloud.propfind("f").status_code == 207:
            break
        time.sleep(0.1)  # nobody tells us: that is the point
    assert cloud.get("f").content == b"first"
    assert cloud.get("f").headers["OC-Checksum"] == FIRST
    cloud.put("f", b"other", OC_Checksum=FIRST)
    assert cloud.get("f").headers["OC-Checksum"] == FIRST, "verbatim: it proves who wrote, not what"


def test_rule_16_what_the_headers_of_each_request_bring(nextcloud: Target, cloud: Dav) -> None:
    user = f"{nextcloud.site_url}/ocs/v2.php/cloud/user?format=json"
    assert cloud.client.get(user).status_code == 412
    assert cloud.client.get(user, headers=OCS).status_code == 200
    cloud.put("f.txt", b"x" * 10_000)
    reply = cloud.get("f.txt")
    assert reply.headers["Content-Length"] == "10000"
    assert "Content-Encoding" not in reply.headers
    listed = cloud.propfind("f.txt", "d:getetag", "nc:lock", Accept_Encoding="gzip", Prefer="return=minimal")
    assert listed.headers["Content-Encoding"] == "gzip"
    assert set(cloud.entries(listed)[0].statuses) == {"d:getetag"}
