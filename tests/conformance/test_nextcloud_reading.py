"""protocol.md §5: GET and HEAD."""

from __future__ import annotations

import pytest

from tests.conformance.dav import Dav, exception_of

CONTENT = bytes(range(250)) * 4
MTIME = "1600000000"
MTIME_DATE = "Sun, 13 Sep 2020 12:26:40 GMT"


@pytest.fixture
def file(cloud: Dav) -> Dav:
    """``r.bin`` of 1000 bytes."""
    cloud.put("r.bin", CONTENT, X_OC_Mtime=MTIME, OC_Checksum="SHA1:aa")
    return cloud


class TestHeaders:
    def test_of_get_and_head(self, file: Dav) -> None:
        for reply in (file.get("r.bin"), file.request("HEAD", "r.bin")):
            assert reply.status_code == 200
            assert reply.headers["Content-Length"] == "1000"
            assert reply.headers["Last-Modified"] == MTIME_DATE
            assert reply.headers["ETag"] == reply.headers["OC-ETag"]
            assert "no-store" in reply.headers["Cache-Control"]
            assert "Accept-Ranges" not in reply.headers
            assert (
                reply.headers["Content-Disposition"]
                == "attachment; filename*=UTF-8''r.bin; filename=\"r.bin\""
            )

    def test_head_tells_the_checksum_twice(self, file: Dav) -> None:
        assert file.get("r.bin").headers.get_list("OC-Checksum") == ["SHA1:aa"]
        assert file.request("HEAD", "r.bin").headers.get_list("OC-Checksum") == ["SHA1:aa"] * 2

    def test_head_of_a_folder_tells_nothing(self, cloud: Dav) -> None:
        reply = cloud.request("HEAD", "")
        assert reply.status_code == 200
        assert "ETag" not in reply.headers
        assert "Content-Length" not in reply.headers

    def test_get_of_a_folder_is_a_text(self, cloud: Dav) -> None:
        assert cloud.get("").text.startswith("This is the WebDAV interface.")

    def test_empty_file_has_no_length(self, cloud: Dav) -> None:
        cloud.put("empty", b"")
        for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=0-10"}):
            reply = cloud.get("empty", **headers)
            assert (reply.status_code, reply.content) == (200, b"")
            assert "Content-Length" not in reply.headers


class TestRanges:
    @pytest.mark.parametrize(
        ("sent", "answered", "content"),
        [
            ("0-99", "0-99", CONTENT[:100]),
            ("900-", "900-999", CONTENT[900:]),
            ("-100", "900-999", CONTENT[900:]),
            ("-5000", "0-999", CONTENT),
            ("0-99999", "0-999", CONTENT),
            ("0-0", "0-999", CONTENT),
            ("2-0", "2-999", CONTENT[2:]),
            ("1-1", "1-1", CONTENT[1:2]),
            ("-0", "1000-999", b""),
        ],
    )
    def test_206(self, file: Dav, sent: str, answered: str, content: bytes) -> None:
        reply = file.get("r.bin", Range=f"bytes={sent}")
        assert reply.status_code == 206
        assert reply.headers["Content-Range"] == f"bytes {answered}/1000"
        assert reply.headers["Content-Length"] == str(len(content))
        assert reply.content == content

    @pytest.mark.parametrize("sent", ["bytes=1000-", "bytes=5000-6000", "bytes=50-10"])
    def test_416(self, file: Dav, sent: str) -> None:
        reply = file.get("r.bin", Range=sent)
        assert reply.status_code == 416
        assert exception_of(reply) == "Sabre\\DAV\\Exception\\RequestedRangeNotSatisfiable"
        assert "ETag" in reply.headers
        assert "Content-Range" not in reply.headers

    @pytest.mark.parametrize("sent", ["bytes=0-9,20-29", "octets=1-2", "bytes=-"])
    def test_others_are_the_whole_file(self, file: Dav, sent: str) -> None:
        reply = file.get("r.bin", Range=sent)
        assert (reply.status_code, reply.content) == (200, CONTENT)

    def test_head_with_range_is_500(self, file: Dav) -> None:
        assert file.request("HEAD", "r.bin", Range="bytes=0-9").status_code == 500

    def test_if_range(self, file: Dav) -> None:
        current = file.get("r.bin").headers["ETag"]
        for value, status in (
            (current, 206),
            ('"other"', 200),
            (MTIME_DATE, 206),
            ("Fri, 13 Sep 2019 12:26:40 GMT", 200),
        ):
            assert file.get("r.bin", Range="bytes=0-9", If_Range=value).status_code == status


class TestPreconditions:
    def test_if_match_with_range_detects_a_change(self, file: Dav) -> None:
        current = file.get("r.bin").headers["ETag"]
        assert file.get("r.bin", Range="bytes=0-9", If_Match=current).status_code == 206
        changed = file.get("r.bin", Range="bytes=0-9", If_Match='"bad"')
        assert changed.status_code == 412
        assert changed.headers["ETag"] == current

    def test_if_match_is_compared_strictly(self, file: Dav) -> None:
        current = file.get("r.bin").headers["ETag"]
        for value in (current.strip('"'), f"W/{current}"):
            assert file.get("r.bin", If_Match=value).status_code == 412

    def test_if_match_on_nothing_is_412(self, cloud: Dav) -> None:
        assert cloud.get("nope", If_Match="*").status_code == 412

    def test_if_none_match_is_304(self, file: Dav) -> None:
        current = file.get("r.bin").headers["ETag"]
        reply = file.get("r.bin", If_None_Match=current, Range="bytes=0-9")
        assert (reply.status_code, reply.headers["ETag"]) == (304, current)

    def test_dates(self, file: Dav) -> None:
        assert file.get("r.bin", If_Modified_Since=MTIME_DATE).status_code == 304
        before = "Fri, 13 Sep 2019 12:26:40 GMT"
        assert file.get("r.bin", If_Modified_Since=before).status_code == 200
        assert file.get("r.bin", If_Unmodified_Since=before).status_code == 412
