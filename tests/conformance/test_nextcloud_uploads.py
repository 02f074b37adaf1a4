"""protocol.md §7 (chunked upload) and §8 (bulk upload)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import Share, Target
from tests.conformance.dav import Dav, exception_of, message_of, once

MTIME = "1600000000"
MTIME_DATE = "Sun, 13 Sep 2020 12:26:40 GMT"


@pytest.fixture
def upload(nextcloud: Target, cloud: Dav) -> Iterator[Dav]:
    """A fresh upload folder."""
    root = nextcloud.root_url.replace("/dav/files/", "/dav/uploads/")
    user = root.partition("/dav/uploads/")[2].partition("/")[0]
    url = f"{nextcloud.site_url}/remote.php/dav/uploads/{user}/conformance-{secrets.token_hex(4)}/"
    folder = Dav(cloud.client, url)
    assert folder.request("MKCOL", "", Destination=cloud.url("f")).status_code == 201
    yield folder
    folder.request("DELETE", "")


def assemble(upload: Dav, cloud: Dav, to: str = "f", **headers: str) -> httpx.Response:
    return upload.request("MOVE", ".file", Destination=cloud.url(to), **headers)


class TestChunks:
    def test_whole_way(self, cloud: Dav, upload: Dav) -> None:
        parts = [b"a" * 300_000, b"b" * 300_000, b"c"]
        total = str(sum(map(len, parts)))
        for number, part in enumerate(parts, 1):
            sent = upload.request(
                "PUT", f"{number:05d}", content=part, Destination=cloud.url("f"), OC_Total_Length=total
            )
            assert sent.status_code == 201
        reply = assemble(
            upload,
            cloud,
            OC_Total_Length=total,
            X_OC_Mtime=MTIME,
            X_OC_CTime="1500000000",
            OC_Checksum="SHA1:aa",
        )
        assert reply.status_code == 201
        assert reply.headers["X-OC-MTime"] == reply.headers["X-OC-CTime"] == "accepted"
        assert reply.headers["ETag"] == reply.headers["OC-ETag"] == cloud.get("f").headers["ETag"]
        found = cloud.stat("f", "oc:id", "d:getlastmodified", "oc:checksums", "nc:creation_time").found
        assert found == {
            "oc:id": reply.headers["OC-FileId"],
            "d:getlastmodified": MTIME_DATE,
            "oc:checksums": "oc:checksum=SHA1:aa",
            "nc:creation_time": "1500000000",
        }
        assert cloud.get("f").content == b"".join(parts)
        assert upload.propfind("").status_code == 404

    def test_listing_for_resume(self, cloud: Dav, upload: Dav) -> None:
        upload.put("00001", b"12345")
        upload.put("00002", b"123")
        lengths = {path: entry.found.get("d:getcontentlength") for path, entry in upload.listing().items()}
        assert lengths == {"": None, ".file": "8", "00001": "5", "00002": "3"}
        assert cloud.get("f").status_code == 404

    def test_order_is_natural(self, cloud: Dav, upload: Dav) -> None:
        for name in ("10", "9", "00002", "abc", "1", "0", "10001"):
            upload.put(name, f"<{name}>".encode())
        assert assemble(upload, cloud).status_code == 201
        assert cloud.get("f").text == "<0><1><00002><9><10><10001><abc>"

    def test_gaps_go_unnoticed(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"one")
        upload.put("3", b"three")
        assert assemble(upload, cloud).status_code == 201
        assert cloud.get("f").content == b"onethree"

    def test_no_chunks_make_an_empty_file(self, cloud: Dav, upload: Dav) -> None:
        assert assemble(upload, cloud).status_code == 201
        assert cloud.get("f").content == b""

    def test_a_chunk_can_be_replaced_and_deleted(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"wrong")
        assert upload.request("PUT", "1", content=b"right").status_code == 204
        upload.put("2", b"not wanted")
        assert upload.request("DELETE", "2").status_code == 204
        assemble(upload, cloud)
        assert cloud.get("f").content == b"right"

    def test_wrong_total_is_400_and_can_be_repeated(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"12345")
        reply = assemble(upload, cloud, OC_Total_Length="6")
        assert reply.status_code == 400
        assert message_of(reply) == "Chunks on server do not sum up to 6 but to 5 bytes"
        assert assemble(upload, cloud, OC_Total_Length="5").status_code == 201

    def test_overwrite_keeps_the_file_id(self, cloud: Dav, upload: Dav) -> None:
        before = cloud.put("f", b"old").headers["OC-FileId"]
        upload.put("1", b"new content")
        reply = assemble(upload, cloud)
        assert (reply.status_code, reply.headers["OC-FileId"]) == (204, before)

    def test_if_match_never_matches(self, cloud: Dav, upload: Dav) -> None:
        """Rule 9: it is about the source."""
        current = cloud.put("f", b"old").headers["ETag"]
        upload.put("1", b"new")
        for header in (current, '"stale"'):
            assert assemble(upload, cloud, If_Match=header).status_code == 412
        assert assemble(upload, cloud, If_None_Match="*").status_code == 412

    def test_if_is_about_the_target(self, cloud: Dav, upload: Dav) -> None:
        current = cloud.put("f", b"old").headers["ETag"]
        upload.put("1", b"new")
        stale = assemble(upload, cloud, If=f'<{cloud.url("f")}> (["stale"])')
        assert stale.status_code == 412
        assert message_of(stale).startswith("Failed to find a valid token/etag combination for files/")
        assert assemble(upload, cloud, If=f"<{cloud.url('f')}> ([{current}])").status_code == 204

    def test_if_about_a_target_that_is_gone_is_404(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"new")
        assert assemble(upload, cloud, If=f'<{cloud.url("f")}> (["any"])').status_code == 404
        assert assemble(upload, cloud).status_code == 201

    def test_nothing_is_put_together_where_nothing_may_be_created(
        self, received: tuple[Dav, Share], upload: Dav
    ) -> None:
        """Also over a file that may be changed, by a plain PUT (measured on 29.0.1)."""
        root, share = received
        share.allow(3)
        path = f"{share.name}/sub/file"
        upload.put("1", b"new")
        assert assemble(upload, root, path).status_code == 403
        assert root.get(path).content == b"content"
        assert root.put(path, b"new").status_code == 204

    def test_overwrite_f_creates_only(self, cloud: Dav, upload: Dav) -> None:
        cloud.put("f", b"old")
        upload.put("1", b"new")
        assert assemble(upload, cloud, Overwrite="F").status_code == 412
        assert cloud.get("f").content == b"old"
        assert assemble(upload, cloud, "g", Overwrite="F").status_code == 201

    def test_bad_mtime_is_500_but_assembled(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"new")
        assert assemble(upload, cloud, X_OC_Mtime="0").status_code == 500
        assert cloud.get("f").content == b"new"

    def test_destination_parent_missing_is_409(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"new")
        assert assemble(upload, cloud, "no/f").status_code == 409
        assert assemble(upload, cloud, "f").status_code == 201

    def test_a_chunk_for_a_missing_folder_is_404(self, cloud: Dav, upload: Dav) -> None:
        """Where its total is told; a chunk for a place below a file is taken."""
        cloud.put("f", b"")
        for folder, status in (("no", 404), ("f", 201)):
            sent = upload.request(
                "PUT", "1", content=b"new", Destination=cloud.url(f"{folder}/f"), OC_Total_Length="3"
            )
            assert sent.status_code == status
        assert assemble(upload, cloud, "f/f").status_code == 415

    def test_destination_is_a_folder_is_400(self, cloud: Dav, upload: Dav) -> None:
        cloud.mkcol("d")
        upload.put("1", b"new")
        assert assemble(upload, cloud, "d").status_code == 400

    def test_upload_folder_rules(self, upload: Dav) -> None:
        assert upload.request("MKCOL", "").status_code == 405
        missing = Dav(upload.client, upload.folder_url.rstrip("/") + "-missing/")
        assert missing.request("PUT", "1", content=b"x").status_code == 404
        assert missing.request("MKCOL", "nested").status_code == 409
        assert missing.request("DELETE", "").status_code == 404

    def test_abort(self, cloud: Dav, upload: Dav) -> None:
        upload.put("1", b"new")
        assert upload.request("DELETE", "").status_code == 204
        assert upload.propfind("").status_code == 404
        assert assemble(upload, cloud).status_code == 404

    def test_quota_is_checked_early_with_total_and_destination(self, cloud: Dav, upload: Dav) -> None:
        total = "1000000000000000"
        reply = upload.request("PUT", "1", content=b"x", Destination=cloud.url("f"), OC_Total_Length=total)
        assert (reply.status_code, exception_of(reply)) == (507, "Sabre\\DAV\\Exception\\InsufficientStorage")
        assert upload.get("1").status_code == 404

    def test_copy_as_a_chunk_appends(self, cloud: Dav, upload: Dav) -> None:
        """§7.1."""
        before = cloud.put("f", b"base-", X_OC_Mtime=MTIME)
        copied = cloud.request("COPY", "f", Destination=upload.url("00001"), Overwrite="F")
        assert copied.status_code == 201
        assert upload.listing()["00001"].found["d:getcontentlength"] == "5"
        upload.put("00002", b"tail")
        condition = f"<{cloud.url('f')}> ([{before.headers['ETag']}])"
        reply = assemble(upload, cloud, OC_Total_Length="9", If=condition)
        assert (reply.status_code, reply.headers["OC-FileId"]) == (204, before.headers["OC-FileId"])
        assert cloud.get("f").content == b"base-tail"

    def test_a_copied_chunk_is_of_the_version_that_is_named(self, cloud: Dav, upload: Dav) -> None:
        current = cloud.put("f", b"base-").headers["ETag"]

        def copy(source: str, etag: str, target: str = upload.url("00001")) -> httpx.Response:
            return cloud.request("COPY", source, Destination=target, Overwrite="F", If_Match=etag)

        assert copy("f", '"another"').status_code == 412
        assert copy("none", current).status_code == 412
        assert copy("f", current, upload.url("").rstrip("/") + "-missing/00001").status_code == 409
        assert upload.get("00001").status_code == 404
        assert copy("f", current).status_code == 201
        assert copy("f", current).status_code == 412
        assert upload.request("PATCH", "00001", X_Recalculate_Hash="sha1").status_code == 501

    def test_an_upload_needs_no_destination_before_its_end(
        self, nextcloud: Target, cloud: Dav, upload: Dav
    ) -> None:
        """Without one the storage never puts the file together by itself (version 2)."""
        bare = Dav(upload.client, upload.folder_url.rstrip("/") + "-bare/")
        assert bare.request("MKCOL", "").status_code == 201
        assert bare.request("PUT", "00001", content=b"data").status_code == 201
        assert list(bare.listing()) == ["", ".file", "00001"]
        assert assemble(bare, cloud, OC_Total_Length="4").status_code == 201
        assert cloud.get("f").content == b"data"

    def test_assembled_without_a_checksum_the_old_one_goes(self, cloud: Dav, upload: Dav) -> None:
        cloud.put("f", b"base-", OC_Checksum="SHA1:" + "0" * 40)
        upload.put("1", b"new")
        assert assemble(upload, cloud).status_code == 204
        assert "oc:checksums" not in cloud.stat("f", "oc:checksums").found


class TestBulk:
    @pytest.fixture
    def bulk(self, nextcloud: Target, cloud: Dav) -> Any:
        """Posts parts (path below the folder, content, headers) without cookies: (status, results, reply)."""
        home = nextcloud.site_url + "/remote.php/dav/files/"
        folder = "/" + cloud.folder_url.removeprefix(home).partition("/")[2]

        def post(
            *parts: tuple[str, bytes, dict[str, str | None]],
            content_type: str = "multipart/related; boundary=B",
            end: bytes = b"--B--\r\n",
        ) -> tuple[int, Any]:
            body = b""
            for path, content, changed in parts:
                headers: dict[str, str | None] = {
                    "X-File-Path": folder + path,
                    "X-File-MD5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                    "Content-Length": str(len(content)),
                }
                headers |= changed
                lines = "".join(
                    f"{name}: {value}\r\n" for name, value in headers.items() if value is not None
                )
                body += b"--B\r\n" + lines.encode() + b"\r\n" + content + b"\r\n"
            reply = once(
                "POST",
                f"{nextcloud.site_url}/remote.php/dav/bulk",
                content=body + end,
                auth=(nextcloud.user, nextcloud.password),
                headers={"Content-Type": content_type},
            )
            if reply.headers["Content-Type"].startswith("application/xml"):
                return reply.status_code, exception_of(reply)
            results = reply.json() or {}
            return reply.status_code, {path.removeprefix(folder): result for path, result in results.items()}

        return post

    def test_files_are_written(self, cloud: Dav, bulk: Any) -> None:
        status, results = bulk(("a ü#%.txt", b"aaa", {"X-OC-Mtime": MTIME}), ("b", b"", {}))
        assert status == 200
        assert set(results) == {"a ü#%.txt", "b"}
        entry = cloud.stat(
            "a ü#%.txt", "d:getetag", "oc:id", "d:getlastmodified", "oc:checksums", "nc:upload_time"
        )
        first = results["a ü#%.txt"]
        assert first == {
            "error": False,
            "etag": entry.found["d:getetag"].strip('"'),
            "fileid": entry.found["oc:id"],
            "permissions": "RGDNVW",
        }
        assert entry.found["d:getlastmodified"] == MTIME_DATE
        assert entry.found["nc:upload_time"] == "0"
        assert "oc:checksums" not in entry.found
        assert cloud.get("b").content == b""

    def test_overwrites_whatever_the_preconditions(self, cloud: Dav, bulk: Any) -> None:
        before = cloud.put("f", b"old").headers["OC-FileId"]
        _, results = bulk(
            ("f", b"newer", {"If-None-Match": "*", "If-Match": '"x"', "OC-Checksum": "SHA1:aa"})
        )
        assert results["f"]["fileid"] == before
        assert cloud.get("f").content == b"newer"
        assert "OC-Checksum" not in cloud.get("f").headers

    def test_a_file_that_fails_does_not_stop_the_others(self, cloud: Dav, bulk: Any) -> None:
        status, results = bulk(
            ("ok1", b"1", {}),
            ("no/dir/x", b"x", {}),
            (".htaccess", b"x", {}),
            ("back\\slash", b"x", {}),
            ("../x", b"x", {}),
            ("mtime0", b"x", {"X-OC-Mtime": "0"}),
            ("ok2", b"2", {}),
        )
        assert status == 200
        failed = {path for path, result in results.items() if result["error"]}
        assert failed == {"no/dir/x", ".htaccess", "back\\slash", "../x", "mtime0"}
        assert (cloud.get("ok1").content, cloud.get("ok2").content) == (b"1", b"2")

    @pytest.mark.parametrize(
        "changed", [{"X-File-MD5": "0" * 32}, {"X-File-MD5": None}, {"Content-Length": None}]
    )
    def test_bad_part_ends_the_batch_with_400(self, cloud: Dav, bulk: Any, changed: dict[str, str]) -> None:
        status, results = bulk(("ok", b"1", {}), ("bad", b"x", changed), ("never", b"2", {}))
        assert (status, set(results)) == (400, {"ok"})
        assert cloud.get("ok").status_code == 200
        assert cloud.get("never").status_code == 404

    def test_missing_end_is_400_with_everything_written(self, cloud: Dav, bulk: Any) -> None:
        status, results = bulk(("f", b"1", {}), end=b"")
        assert (status, set(results)) == (400, {"f"})
        assert cloud.get("f").content == b"1"

    def test_part_name_is_500_for_the_batch(self, cloud: Dav, bulk: Any) -> None:
        status, exception = bulk(("ok", b"1", {}), ("x.part", b"x", {}))
        assert (status, exception) == (500, "Error")
        assert cloud.get("ok").content == b"1"

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            ('multipart/related; boundary="B"', 200),
            ("multipart/form-data; boundary=B", 400),
            ('multipart/related; type="x"; boundary=B', 400),
        ],
    )
    def test_content_type(self, bulk: Any, content_type: str, status: int) -> None:
        assert bulk(("f", b"1", {}), content_type=content_type)[0] == status

    def test_long_names_are_fine(self, cloud: Dav, bulk: Any) -> None:
        assert bulk(("n" * 240, b"1", {}))[0] == 200
        assert cloud.get("n" * 240).content == b"1"
