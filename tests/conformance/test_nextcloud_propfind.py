"""protocol.md §2: PROPFIND, properties, names."""

from __future__ import annotations

import re
import time
import unicodedata
from urllib.parse import quote, unquote

import pytest

from tests.conformance.dav import Dav, exception_of

LISTED = (
    "d:resourcetype d:getlastmodified d:getcontentlength d:getetag oc:fileid oc:id oc:permissions oc:size "
    "oc:checksums oc:favorite nc:mount-type nc:is-mount-root nc:creation_time nc:upload_time nc:is-encrypted"
).split()


class TestProperties:
    def test_of_a_file(self, cloud: Dav) -> None:
        before = int(time.time()) - 5
        reply = cloud.put(
            "f.txt", b"12345", X_OC_Mtime="1600000000", OC_Checksum="SHA1:aa MD5:bb", X_OC_CTime="1500000000"
        )
        found = dict(cloud.stat("f.txt", *LISTED).found)
        assert int(found.pop("nc:upload_time")) >= before
        assert found.pop("oc:id") == reply.headers["OC-FileId"]
        assert reply.headers["OC-FileId"].startswith(f"{int(found.pop('oc:fileid')):08d}")
        assert found == {
            "d:resourcetype": "",
            "d:getlastmodified": "Sun, 13 Sep 2020 12:26:40 GMT",
            "d:getcontentlength": "5",
            "d:getetag": reply.headers["ETag"],
            "oc:permissions": "RGDNVW",
            "oc:size": "5",
            "oc:checksums": "oc:checksum=SHA1:aa oc:checksum=MD5:bb",
            "oc:favorite": "0",
            "nc:mount-type": "",
            "nc:is-mount-root": "false",
            "nc:creation_time": "1500000000",
        }

    def test_the_data_fingerprint_is_one_for_all(self, cloud: Dav) -> None:
        """Empty until a backup is restored for the first time; another one after each."""
        cloud.mkcol("d")
        cloud.put("d/f")
        found = {
            entry.found["oc:data-fingerprint"] for entry in cloud.listing("d", "oc:data-fingerprint").values()
        }
        assert len(found) == 1
        assert re.fullmatch("[0-9a-f]{0,32}", found.pop())

    def test_of_a_folder(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.mkcol("d/e")
        cloud.put("d/f", b"12345")
        cloud.put("d/e/g", b"123")
        entry = cloud.stat("d", *LISTED)
        found = dict(entry.found)
        assert re.fullmatch('"[0-9a-f]{13}"', found.pop("d:getetag"))
        for name in ("d:getlastmodified", "oc:fileid", "oc:id"):
            assert found.pop(name)
        assert found == {
            "d:resourcetype": "d:collection",
            "oc:permissions": "RGDNVCK",
            "oc:size": "8",
            "oc:favorite": "0",
            "nc:mount-type": "",
            "nc:is-mount-root": "false",
            "nc:creation_time": "0",
            "nc:is-encrypted": "0",
        }
        missing = {name for name, status in entry.statuses.items() if status == 404}
        assert missing == {"d:getcontentlength", "oc:checksums", "nc:upload_time"}

    def test_file_etag_is_32_hex_digits(self, cloud: Dav) -> None:
        assert re.fullmatch('"[0-9a-f]{32}"', cloud.put("f").headers["ETag"])

    def test_no_checksum_is_404(self, cloud: Dav) -> None:
        cloud.put("f")
        assert cloud.stat("f", "oc:checksums").statuses == {"oc:checksums": 404}

    def test_unlimited_quota_is_minus_three(self, cloud: Dav) -> None:
        assert cloud.stat("", "d:quota-available-bytes").found["d:quota-available-bytes"] == "-3"

    def test_missing_ones_are_left_out_with_return_minimal(self, cloud: Dav) -> None:
        cloud.put("f")
        reply = cloud.propfind("f", "d:getetag", "oc:checksums", "nc:lock", Prefer="return=minimal")
        assert set(cloud.entries(reply)[0].statuses) == {"d:getetag"}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b'<d:propfind xmlns:d="DAV:"><d:allprop/></d:propfind>',
            b'<d:propfind xmlns:d="DAV:"><d:propname/></d:propfind>',
            b'<d:propfind xmlns:d="DAV:"><d:prop/></d:propfind>',
        ],
    )
    def test_no_names_give_the_same_five(self, cloud: Dav, body: bytes) -> None:
        cloud.put("f.txt", b"1")
        of_file, of_folder = (
            set(cloud.entries(cloud.request("PROPFIND", path, content=body, Depth="0"))[0].statuses)
            for path in ("f.txt", "")
        )
        common = {"d:getlastmodified", "d:resourcetype", "d:getetag"}
        assert of_file == common | {"d:getcontentlength", "d:getcontenttype"}
        assert of_folder == common | {"d:quota-used-bytes", "d:quota-available-bytes"}


class TestDepth:
    def test_a_number_is_a_number_of_levels(self, cloud: Dav) -> None:
        for path in ("a", "a/b", "a/b/c", "a/b/c/d"):
            cloud.mkcol(path)
        assert set(cloud.listing(depth="2")) == {"", "a/", "a/b/"}
        assert set(cloud.listing(depth="3")) == {"", "a/", "a/b/", "a/b/c/"}

    def test_no_header_means_one(self, cloud: Dav) -> None:
        cloud.mkcol("a")
        cloud.mkcol("a/b")
        reply = cloud.propfind("", "d:getetag", depth=None)
        assert {entry.path for entry in cloud.entries(reply)} == {"", "a/"}

    def test_the_folder_itself_comes_first(self, cloud: Dav) -> None:
        cloud.put("a")
        cloud.put("B")
        paths = [entry.path for entry in cloud.entries(cloud.propfind("", depth="1"))]
        assert paths == ["", "B", "a"]

    def test_infinity_lists_parents_first(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f")
        cloud.put("e")
        paths = [entry.path for entry in cloud.entries(cloud.propfind("", depth="infinity"))]
        assert paths == ["", "d/", "d/f", "e"]


class TestEncoding:
    def test_gzip_when_accepted(self, cloud: Dav) -> None:
        assert cloud.propfind("", Accept_Encoding="gzip").headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in cloud.propfind("", Accept_Encoding="identity").headers

    def test_no_content_type_is_accepted(self, cloud: Dav) -> None:
        body = b'<d:propfind xmlns:d="DAV:"><d:prop><d:getetag/></d:prop></d:propfind>'
        assert cloud.request("PROPFIND", "", content=body, Depth="0").status_code == 207

    @pytest.mark.parametrize(
        "body", [b'<d:propfind xmlns:d="DAV:"><d:prop>', b'<d:foo xmlns:d="DAV:"/>', b"junk"]
    )
    def test_broken_or_wrong_xml_is_400(self, cloud: Dav, body: bytes) -> None:
        reply = cloud.request("PROPFIND", "", content=body, Depth="0")
        assert reply.status_code == 400
        assert exception_of(reply) == "Sabre\\DAV\\Exception\\BadRequest"

    def test_hrefs_are_encoded_in_lower_case(self, cloud: Dav) -> None:
        cloud.put("é [x] (y):@,+.txt")
        href = cloud.listing()["é [x] (y):@,+.txt"].href
        assert href.endswith("/%c3%a9%20%5bx%5d%20(y):@%2c%2b.txt")


INVALID = "OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath"


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            " lead", "trail ", "dot.", "...", ".hidden", "CON", "aux.txt", "Thumbs.db", "x.PART", "x.filepart",
            "a:b*c<d>e|f", "`^{}~=@,$!", "\x7f", "😀", "\u200b", ".user.ini", "%2F", "%41", "a" * 227,
        ],
    )  # fmt: skip
    def test_stored_as_they_are(self, cloud: Dav, name: str) -> None:
        cloud.put(name, b"content")
        assert name in cloud.listing("", "d:getetag")
        assert cloud.get(name).content == b"content"

    def test_case_is_kept_apart(self, cloud: Dav) -> None:
        cloud.put("case.txt", b"1")
        cloud.put("CASE.txt", b"2")
        assert cloud.get("case.txt").content == b"1"

    def test_nfd_becomes_nfc(self, cloud: Dav) -> None:
        composed, decomposed = "é.txt", unicodedata.normalize("NFD", "é.txt")
        cloud.put(decomposed, b"content")
        assert composed in cloud.listing()
        assert cloud.get(composed).content == cloud.get(decomposed).content == b"content"

    def test_broken_utf8_is_taken_for_latin_1(self, cloud: Dav) -> None:
        url = cloud.folder_url + "bad%ff.txt"
        assert cloud.client.put(url, content=b"x").status_code == 201
        assert "badÿ.txt" in cloud.listing()

    @pytest.mark.parametrize("method", ["PUT", "MKCOL"])
    @pytest.mark.parametrize("name", ["back\\slash", "bell\x07", "tab\tx", "r\rx"])
    def test_invalid_characters_are_400(self, cloud: Dav, method: str, name: str) -> None:
        reply = cloud.request(method, name, content=b"")
        assert reply.status_code == 400
        assert exception_of(reply) == INVALID

    @pytest.mark.parametrize("method", ["PUT", "MKCOL"])
    def test_a_star_alone_is_a_reserved_word(self, cloud: Dav, method: str) -> None:
        reply = cloud.request(method, "*", content=b"")
        assert (reply.status_code, exception_of(reply)) == (400, INVALID)

    def test_line_feed_never_reaches_the_application(self, cloud: Dav) -> None:
        reply = cloud.request("PUT", "new\nline", content=b"x")
        assert reply.status_code == 404
        assert reply.headers["Content-Type"] == "text/html"

    def test_line_feed_in_a_destination_is_400(self, cloud: Dav) -> None:
        cloud.put("f")
        assert exception_of(cloud.transfer("MOVE", "f", "new\nline")) == INVALID

    @pytest.mark.parametrize("name", [".htaccess", ".HTACCESS"])
    def test_htaccess_is_403(self, cloud: Dav, name: str) -> None:
        cloud.put("f")
        assert cloud.request("PUT", name, content=b"x").status_code == 403
        assert cloud.request("MKCOL", name).status_code == 403
        assert cloud.transfer("MOVE", "f", name).status_code == 403

    def test_new_file_of_more_than_228_bytes_is_500(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "n" * 240, content=b"x").status_code == 500

    def test_long_names_work_by_move_and_for_folders(self, cloud: Dav) -> None:
        cloud.put("short", b"content")
        assert cloud.transfer("MOVE", "short", "n" * 250).status_code == 201
        assert cloud.get("n" * 250).content == b"content"
        cloud.put("n" * 250, b"again")
        cloud.mkcol("d" * 250)

    def test_more_than_250_bytes_are_400(self, cloud: Dav) -> None:
        for method in ("PUT", "MKCOL"):
            reply = cloud.request(method, "é" * 126, content=b"")
            assert (reply.status_code, exception_of(reply)) == (400, INVALID)

    def test_a_path_of_4000_bytes_is_counted_from_above_the_account(self, cloud: Dav) -> None:
        """And a new file is written under a longer name first."""
        account, _, folder = unquote(cloud.folder_url).partition("/dav/files/")[2].partition("/")
        left = 3800 - len("/" + folder.rstrip("/"))
        path = ""
        while left:
            name = "d" * (min(left, 200 if left >= 400 or left <= 200 else left - 200) - 1)
            path, left = f"{path}{name}/", left - len(name) - 1
            cloud.mkcol(path)
        longest = 4000 - len(f"/{account}/files") - 3801
        cloud.put(path + "f" * 99, b"1")  # 3900 from the account on
        cloud.mkcol(path + "d" * longest)
        reply = cloud.request("PUT", path + "f" * longest, content=b"1")
        assert (reply.status_code, exception_of(reply)) == (400, INVALID)
        reply = cloud.request("MKCOL", path + "d" * (longest + 1))
        assert (reply.status_code, exception_of(reply)) == (400, INVALID)
        cloud.request("DELETE", path + "d" * longest)  # what is above can then go to the trash

    def test_slashes_and_dots_in_paths_collapse(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f", b"content")
        assert cloud.client.get(cloud.folder_url + "d//f").content == b"content"


class TestPartNames:
    """Rule 12: names ending in ``.part`` are phantoms."""

    def test_new_one_is_locked_for_ever(self, cloud: Dav) -> None:
        reply = cloud.request("PUT", "x.part", content=b"1")
        assert reply.status_code == 423
        assert exception_of(reply) == "OCA\\DAV\\Connector\\Sabre\\Exception\\FileLocked"

    def test_exists_without_existing(self, cloud: Dav) -> None:
        entry = cloud.stat("ghost.part", "d:getetag", "oc:fileid", "oc:size", "d:resourcetype")
        assert entry.found == {"d:getetag": '""', "oc:size": "0", "d:resourcetype": ""}
        assert cloud.request("HEAD", "ghost.part").status_code == 200
        assert cloud.get("ghost.part").status_code == 503
        assert cloud.request("MKCOL", "ghost.part").status_code == 405
        assert cloud.request("DELETE", "ghost.part").status_code == 204

    def test_move_hides_the_file(self, cloud: Dav) -> None:
        cloud.put("f", b"content")
        moved = cloud.transfer("MOVE", "f", "f.part")
        assert (moved.status_code, moved.headers["ETag"]) == (204, '""')
        assert "f.part" not in cloud.listing()
        assert cloud.get("f.part").content == b"content"
        assert cloud.request("PUT", "f.part", content=b"other").status_code == 204

    def test_as_a_folder(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "x.part/f", content=b"1").status_code == 404
        assert cloud.propfind("x.part/f").status_code == 404


def test_paths_are_quoted_by_the_suite() -> None:
    """The names above reach the server percent-encoded."""
    assert quote("100%") == "100%25"
