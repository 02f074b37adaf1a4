"""The small pure parts: ETags, hrefs, values, addresses, plans of reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.errors import Changed, ProtocolViolation, UserError
from cloudfs.remote import etags, ocs, queries, values
from cloudfs.remote.address import parse_address
from cloudfs.remote.dialect import nextcloud_names, upload_headers
from cloudfs.remote.hrefs import Place, origin_of
from cloudfs.remote.protocol import Features, Space, Unlimited
from cloudfs.remote.reading import Plan, names_version, plan, range_headers, skip_of
from cloudfs.types import RemotePath, RemoteVersion

NEXTCLOUD = Features(name="test", nextcloud=True, sets_mtime=True, checksums=True)
PLAIN = Features(name="test")


class TestEtags:
    @pytest.mark.parametrize(
        ("raw", "plain"),
        [
            ('"abc"', "abc"),
            ('W/"abc"', "abc"),
            ('w/"abc"', "abc"),
            ("abc", "abc"),
            (' "abc" ', "abc"),
            ("2203749-1795345142-1000", "2203749-1795345142-1000"),
            ('"', '"'),
            ('""', ""),
            ("", ""),
            (None, ""),
        ],
    )
    def test_normalise(self, raw: str | None, plain: str) -> None:
        assert etags.normalise(raw) == plain

    def test_the_one_that_proxies_leave_alone_is_preferred(self) -> None:
        assert etags.of_headers({"OC-ETag": '"strong"', "ETag": 'W/"weakened"'}) == "strong"
        assert etags.of_headers({"ETag": 'W/"weakened"'}) == "weakened"
        assert etags.of_headers({}) == ""

    def test_a_condition_is_quoted_once(self) -> None:
        assert etags.if_match("abc") == '"abc"'

    @pytest.mark.parametrize("etag", ["", 'a"b', "a b", "ä", "a\r\nX: y"])
    def test_no_condition_from_what_cannot_stand_in_a_header(self, etag: str) -> None:
        assert not etags.can_match(etag)
        with pytest.raises(ValueError, match="no condition"):
            etags.if_match(etag)


ROOT = Place("https://cloud.example.org/nc/remote.php/dav/files/al%20ice")
FOLDER = RemotePath("/a b")


class TestHrefs:
    @pytest.mark.parametrize(
        ("href", "path"),
        [
            ("/nc/remote.php/dav/files/al%20ice/", "/"),
            ("/nc/remote.php/dav/files/al%20ice", "/"),
            ("/nc/remote.php/dav/files/al%20ice/a%20b/", "/a b"),
            ("/nc/remote.php/dav/files/al%20ice/a%20b/%c3%a4.txt", "/a b/ä.txt"),
            ("/nc/remote.php/dav/files/al%20ice/a%20b/%C3%A4.txt", "/a b/ä.txt"),
            ("/nc/remote.php/dav/files/al%20ice/a%CC%88", "/ä"),
            ("/nc/remote.php/dav/files/%61l%20ice//x", "/x"),
            ("https://cloud.example.org/nc/remote.php/dav/files/al%20ice/x", "/x"),
            ("http://CLOUD.example.org:8080/nc/remote.php/dav/files/al%20ice/x", "/x"),
            ("c+d&e?f#g", "/a b/c+d&e?f#g"),
            ("sub/x", "/a b/sub/x"),
        ],
    )
    def test_resolved(self, href: str, path: str) -> None:
        assert ROOT.path_of(href, FOLDER) == path

    @pytest.mark.parametrize(
        "href",
        [
            "/nc/remote.php/dav/files/bob/x",
            "/nc/remote.php/dav/files",
            "/",
            "",
            "/nc/remote.php/dav/files/al%20ice/../bob/x",
            "/nc/remote.php/dav/files/al%20ice/%2e%2e/x",
            "/nc/remote.php/dav/files/al%20ice/.%2E/x",
            "/nc/remote.php/dav/files/al%20ice/a%2fb",
            "/nc/remote.php/dav/files/al%20ice/a%00b",
            "/nc/remote.php/dav/files/al%20ice/bad%ff",
            "https://evil.example.org/nc/remote.php/dav/files/al%20ice/x",
            "https://cloud.example.org.evil.org/nc/remote.php/dav/files/al%20ice/x",
            "https://cloud.example.org@evil.org/nc/remote.php/dav/files/al%20ice/x",
            "//evil.example.org/nc/remote.php/dav/files/al%20ice/x",
            "../x",
            "./x",
        ],
    )
    def test_refused(self, href: str) -> None:
        if href == "":
            assert ROOT.path_of(href, FOLDER) == FOLDER  # refused by the listing: see test_multistatus
            return
        with pytest.raises(ValueError, match=r"leaves|unsafe|another server|codec"):
            ROOT.path_of(href, FOLDER)

    @given(
        st.lists(st.text(min_size=1, max_size=12).map(lambda text: text.replace("/", "_").replace("\0", "_")))
    )
    def test_there_and_back(self, names: list[str]) -> None:
        import unicodedata  # noqa: PLC0415  # of this test alone

        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            return
        safe = [unicodedata.normalize("NFC", name) for name in names if name not in {".", ".."}]
        path = RemotePath("/" + "/".join(safe))
        assert ROOT.path_of(ROOT.url_of(path), RemotePath("/")) == path

    def test_a_folder_ends_with_one_slash(self) -> None:
        assert ROOT.url_of(RemotePath("/"), folder=True) == ROOT.url
        assert ROOT.url_of(RemotePath("/ä+b"), folder=True) == ROOT.url + "%C3%A4%2Bb/"

    def test_origin(self) -> None:
        assert origin_of("HTTPS://Cloud.Example.org/x") == ("https", "cloud.example.org", 443)
        assert origin_of("http://[::1]:8080/") == ("http", "::1", 8080)
        for url in ("ftp://x/", "x", "", "http:///x"):
            with pytest.raises(ValueError, match="not an http"):
                origin_of(url)


class TestValues:
    def test_dates(self) -> None:
        assert values.http_date_s("Sun, 22 Nov 2026 10:59:01 GMT") == 1795345141
        assert values.http_date_s("Sun, 22 Nov 2026 11:59:01 +0100") == 1795345141
        assert values.http_date_s("Sunday, 22-Nov-26 10:59:01 GMT") == 1795345141
        for text in (
            None,
            "",
            "yesterday",
            "Sun, 99 Nov 2026 10:59:01 GMT",
            "Sun, 22 Nov 99999 10:59:01 GMT",
        ):
            assert values.http_date_s(text) == 0

    @pytest.mark.parametrize(
        "text",
        [
            "Sun, 01 Jan 0000 00:00:00 GMT",
            "Mon, 01 Jan 0001 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Sat, 20 Nov 2286 17:46:40 GMT",
            "Mon, 01 Jan 1600 00:00:00 GMT",
            "Sun, 00 Jan 2000 00:00:00 GMT",
            "Sun, 99 Jan 2000 99:99:99 GMT",
            "Fri, 31 Dec 9999 23:59:59 +0100",
        ],
    )
    def test_dates_fit_into_a_database_as_nanoseconds(self, text: str) -> None:
        assert -(2**63) <= values.http_date_s(text) * 10**9 < 2**63

    @given(st.from_regex(r"\w{3}, \d\d (Jan|Feb|Dec) \d{4} \d\d:\d\d:\d\d (GMT|[+]0100)", fullmatch=True))
    def test_no_date_breaks_a_reader(self, text: str) -> None:
        assert -(2**63) <= values.http_date_s(text) * 10**9 < 2**63

    @given(st.text(max_size=40))
    def test_no_text_breaks_a_reader(self, text: str) -> None:
        assert isinstance(values.http_date_s(text), int)
        values.whole_number(text)
        values.content_range(text)
        values.best_checksum([text])
        values.file_id_of_header(text)

    def test_checksums(self) -> None:
        sha1 = "a" * 40
        assert values.best_checksum([f"MD5:{'B' * 32} sha1:{sha1.upper()}"]) == f"SHA1:{sha1}"
        assert values.best_checksum(["junk", None, "SHA1:xyz"]) is None
        assert values.best_checksum(["XXH3:" + "1" * 16]) == "XXH3:" + "1" * 16

    def test_file_id_of_a_header(self) -> None:
        assert values.file_id_of_header("00000049oco8avo1ibb9") == "49"
        assert values.file_id_of_header("1234567890ocabc") == "1234567890"
        assert values.file_id_of_header("49") is None
        assert values.file_id_of_header(None) is None


class TestAddresses:
    @pytest.mark.parametrize(
        ("typed", "url", "bases", "dav_path"),
        [
            ("cloud.example.org", "https://cloud.example.org/", ["https://cloud.example.org/"], None),
            ("http://h:8080/", "http://h:8080/", ["http://h:8080/"], None),
            (
                "https://h/nc/index.php/apps/files/?dir=/x#y",
                "https://h/nc/",
                ["https://h/nc/"],
                None,
            ),
            (
                "h/nc/apps/files",
                "https://h/nc/apps/files/",
                ["https://h/nc/apps/files/", "https://h/nc/"],
                None,
            ),
            (
                "davs://h/remote.php/webdav/a%20b",
                "https://h/remote.php/webdav/a%20b/",
                ["https://h/"],
                "webdav/a b",
            ),
            (
                "https://h/nc/remote.php/dav/files/al",
                "https://h/nc/remote.php/dav/files/al/",
                ["https://h/nc/"],
                "dav/files/al",
            ),
            ("[::1]:81/d", "https://[::1]:81/d/", ["https://[::1]:81/d/"], None),
            ("h/a//b/", "https://h/a/b/", ["https://h/a/b/"], None),
        ],
    )
    def test_understood(self, typed: str, url: str, bases: list[str], dav_path: str | None) -> None:
        address = parse_address(typed)
        assert (address.url, list(address.base_candidates), address.dav_path) == (url, bases, dav_path)

    @pytest.mark.parametrize(
        "typed",
        ["", "ftp://h/", "https://", "https://a b/", "h:99999", "https://h/a/../b", "https://u:secret@h/"],
    )
    def test_refused_without_repeating_a_password(self, typed: str) -> None:
        with pytest.raises(UserError) as caught:
            parse_address(typed)
        assert "secret" not in str(caught.value)


VERSION = RemoteVersion(etag="e", size=1000, modified_s=1795345141, checksum=None)
HEAD = {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 10:59:01 GMT"}


class TestReading:
    @pytest.mark.parametrize(
        ("start", "stop", "size", "asked"),
        [
            (0, 10, 10, None),
            (0, 1, 1, None),
            (0, 1, 2, None),
            (1, 2, 2, None),
            (0, 1, 10, "bytes=0-1"),
            (5, 6, 10, "bytes=5-6"),
            (9, 10, 10, "bytes=8-9"),
            (2, 7, 10, "bytes=2-6"),
        ],
    )
    def test_at_least_two_bytes_are_asked_for(
        self, start: int, stop: int, size: int, asked: str | None
    ) -> None:
        assert range_headers(plan(start, stop, size), VERSION, PLAIN).get("Range") == asked

    def test_if_match_goes_to_nextcloud_only(self) -> None:
        assert range_headers(plan(0, 5, 10), VERSION, NEXTCLOUD)["If-Match"] == '"e"'
        assert "If-Match" not in range_headers(plan(0, 5, 10), VERSION, PLAIN)

    @pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 4), (-1, 4), (0, 1001)])
    def test_no_plan_outside_the_file(self, start: int, stop: int) -> None:
        with pytest.raises(ValueError, match="no bytes"):
            plan(start, stop, 1000)

    def check(self, status: int, headers: dict[str, str], wanted: Plan | None = None) -> tuple[int, int]:
        return skip_of(wanted or plan(100, 200, 1000), status, HEAD | headers, VERSION, PLAIN)

    def test_the_range_asked_for(self) -> None:
        assert self.check(206, {"Content-Range": "bytes 100-199/1000", "Content-Length": "100"}) == (0, 100)
        assert self.check(206, {"Content-Range": "bytes 100-199/1000"}) == (0, 100)

    def test_a_single_byte_is_cut_out(self) -> None:
        assert self.check(206, {"Content-Range": "bytes 998-999/1000"}, plan(999, 1000, 1000)) == (1, 2)

    def test_a_whole_file_instead_of_a_range(self) -> None:
        assert self.check(200, {"Content-Length": "1000"}) == (100, 1000)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Range": "bytes 100-199/*"},
            {"Content-Range": "bytes 100-198/1000"},
            {"Content-Range": "bytes 0-999/1000"},
            {"Content-Range": "bytes 100-199/1000", "Content-Length": "99"},
            {"Content-Range": "bytes 100-199/1000", "Content-Encoding": "gzip"},
        ],
    )
    def test_another_range_is_no_answer(self, headers: dict[str, str]) -> None:
        with pytest.raises(ProtocolViolation):
            self.check(206, headers)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (206, {"Content-Range": "bytes 100-199/1000", "ETag": '"f"'}),
            (206, {"Content-Range": "bytes 100-199/1001"}),
            (200, {"Content-Length": "999"}),
        ],
    )
    def test_another_version_is_a_change(self, status: int, headers: dict[str, str]) -> None:
        with pytest.raises(Changed):
            self.check(status, headers)

    def test_without_an_etag_the_time_has_to_do(self) -> None:
        reply = {"Content-Range": "bytes 100-199/1000", "ETag": ""}
        assert self.check(206, reply) == (0, 100)
        with pytest.raises(Changed):
            self.check(206, reply | {"Last-Modified": "Sun, 22 Nov 2026 10:59:02 GMT"})

    def test_what_names_no_version_has_the_size_at_least(self) -> None:
        nameless = {"ETag": "", "Last-Modified": ""}
        assert self.check(206, nameless | {"Content-Range": "bytes 100-199/1000"}) == (0, 100)
        assert self.check(200, nameless | {"Content-Length": "1000"}) == (100, 1000)
        with pytest.raises(Changed):
            self.check(206, nameless | {"Content-Range": "bytes 100-199/1001"})
        with pytest.raises(ProtocolViolation):
            self.check(200, nameless)
        assert not names_version(nameless, VERSION, PLAIN)
        assert names_version(HEAD, VERSION, PLAIN)

    def test_without_an_etag_in_listings_the_time_has_to_do(self) -> None:
        listed = RemoteVersion(etag="", size=1000, modified_s=VERSION.modified_s, checksum=None)
        reply = HEAD | {"Content-Range": "bytes 100-199/1000"}
        assert skip_of(plan(100, 200, 1000), 206, reply, listed, PLAIN) == (0, 100)
        with pytest.raises(Changed):
            later = reply | {"Last-Modified": "Sun, 22 Nov 2026 10:59:02 GMT"}
            skip_of(plan(100, 200, 1000), 206, later, listed, PLAIN)
        assert not names_version({"ETag": '"e"'}, listed, PLAIN)

    def test_nextcloud_always_says_the_version(self) -> None:
        headers = HEAD | {"Content-Range": "bytes 100-199/1000", "ETag": ""}
        with pytest.raises(ProtocolViolation):
            skip_of(plan(100, 200, 1000), 206, headers, VERSION, NEXTCLOUD)

    def test_a_checksum_tells_versions_of_one_second_apart(self) -> None:
        mine = RemoteVersion("e", 1000, 0, "SHA1:" + "a" * 40)
        headers = HEAD | {"Content-Range": "bytes 100-199/1000", "OC-Checksum": "SHA1:" + "b" * 40}
        with pytest.raises(Changed):
            skip_of(plan(100, 200, 1000), 206, headers, mine, NEXTCLOUD)
        assert skip_of(plan(100, 200, 1000), 206, headers, mine, PLAIN) == (0, 100)


class TestDialect:
    def test_times_that_nextcloud_refuses_are_clamped(self) -> None:
        assert upload_headers(NEXTCLOUD, 0, None) == {"X-OC-Mtime": "86401"}
        assert upload_headers(NEXTCLOUD, -5, None) == {"X-OC-Mtime": "86401"}
        assert upload_headers(NEXTCLOUD, 1600000000, "SHA1:x") == {
            "X-OC-Mtime": "1600000000",
            "OC-Checksum": "SHA1:x",
        }
        assert upload_headers(PLAIN, None, "SHA1:x") == {}

    def test_names(self) -> None:
        rules = nextcloud_names(
            {"blacklisted_files": [".htaccess"], "forbidden_filename_characters": ["\\", "/", "?"]}
        )
        assert rules.forbidden_characters == "?\\"
        assert rules.forbidden_names == {".htaccess", "*"}
        assert nextcloud_names({"blacklisted_files": 5}).forbidden_names == {".htaccess", "*"}
        newer = nextcloud_names(
            {
                "forbidden_filenames": ["Thumbs.db"],
                "forbidden_filename_basenames": ["CON", "com1"],
                "forbidden_filename_extensions": [".filepart", ".part", " ", "."],
            }
        )
        assert newer.forbidden_names == {".htaccess", "*", "thumbs.db"}
        assert newer.forbidden_stems == {"con", "com1"}
        assert newer.forbidden_endings == (" ", ".", ".filepart", ".part")

    def test_values_in_our_xml_are_escaped(self) -> None:
        assert b"<d:x>&lt;&amp;</d:x>" in queries.proppatch({"d:x": "<&"})


class TestSpace:
    """SOURCE: AUserData::fillStorageInfo of Nextcloud 29.0.1, which PHP's JSON writes."""

    @pytest.mark.parametrize(
        ("quota", "space"),
        [
            ('{"free":70,"used":30,"total":100,"relative":30,"quota":100}', Space(70, 30)),
            ('{"free":70,"used":30,"total":100,"relative":30,"quota":-3}', Unlimited(30)),
            ('{"free":70,"used":30,"quota":-2}', None),
            pytest.param('{"quota":"none","used":0}', None, id="nobody has looked into the account yet"),
            pytest.param('{"quota":100,"used":0}', None, id="what is left is not told"),
            pytest.param("[]", None, id="a storage of the account cannot be reached"),
        ],
    )
    def test_what_the_server_tells_of_an_account(self, quota: str, space: Space | Unlimited | None) -> None:
        body = f'{{"ocs":{{"meta":{{"statuscode":200}},"data":{{"quota":{quota}}}}}}}'.encode()
        assert ocs.space_of(ocs.data_of(body, ocs.User, "/")) == space


def test_two_etags_are_not_one_version_where_a_listing_names_no_mark() -> None:
    """Neither ETag nor time: the size alone would take the one for the other."""
    expect, features = RemoteVersion("", 10, 0), Features("WebDAV")
    wanted = plan(0, 10, expect.size)
    for etag in ('"y"', '"z"'):
        with pytest.raises(Changed):
            skip_of(wanted, 200, {"ETag": etag, "Content-Length": "10"}, expect, features)
