"""What is promised of each parser of a server's words, whatever it is given: one harness for each.

A parser reads (`read`: our errors of a server, and no others, may leave it), a judge looks at what came of it.
Hypothesis calls them in the suite (test_harnesses), atheris by the million (`scripts/fuzz`). A finding becomes a test
of its own (test_found).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from cloudfs.errors import RemoteError
from cloudfs.paths import is_below
from cloudfs.remote import (
    archives,
    attached,
    bulk,
    connect,
    etags,
    loginflow,
    ocs,
    push,
    reading,
    search,
    values,
)
from cloudfs.remote.bodies import Inflater
from cloudfs.remote.entries import Listing
from cloudfs.remote.exchange import WholeReply
from cloudfs.remote.failures import Failure, error_of_reply
from cloudfs.remote.hrefs import Place, origin_of
from cloudfs.remote.multistatus import ListingParser, parse_error
from cloudfs.remote.protocol import Features, NewFile, Pushed, Space, Unlimited
from cloudfs.types import Annotations, RemoteEntry, RemotePath, RemoteVersion, Stored
from tests.servers.standin.zips import Member, zipped

__all__ = ["HARNESSES", "Harness"]

BASE_URL = "https://cloud.example.org/nc/"
PLACE = Place(f"{BASE_URL}remote.php/dav/files/alice/")
NEXTCLOUD = Features(name="Nextcloud", nextcloud=True, checksums=True)
_MOST_S = (2**63 - 1) // 10**9
_NAMESPACES = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"'
_PIECE_BYTES = 32 * 1024


class Harness(NamedTuple):
    """One parser: how it is called, what is promised of its result, and documents that it takes."""

    read: Callable[[bytes], Any]
    """Raises RemoteError for what it does not take."""
    judge: Callable[[Any], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    """What stands in such documents, for those who put some together."""

    def __call__(self, data: bytes) -> None:
        """Read and judge; any exception is a finding."""
        try:
            found = self.read(data)
        except RemoteError:
            return
        self.judge(found)


# --- listings


def _read_listing(data: bytes) -> tuple[RemotePath, list[RemoteEntry]]:
    """The first byte tells which folder and depth was asked for, and in what pieces the body comes."""
    how, body = (data[0], data[1:]) if data else (0, b"")
    folder = RemotePath("/" if how & 1 else "/a/b")
    step = 7 if how & 8 else 1 << 16
    parser, listing = ListingParser(), Listing(PLACE, folder, (1, 0, None, 1)[how >> 1 & 3], most_members=50)
    found: list[RemoteEntry] = []
    for start in range(0, len(body), step):
        found.extend(listing.admit(parser.feed(body[start : start + step])))
    found.extend(listing.admit(parser.close()))
    found.extend(listing.finish())
    return folder, found


def _judge_listing(result: tuple[RemotePath, list[RemoteEntry]]) -> None:
    folder, found = result
    assert len(found) <= 50
    assert len({entry.path for entry in found}) == len(found)
    for entry in found:
        assert is_below(entry.path, folder)
        _judge_entry(entry)


def _judge_entry(entry: RemoteEntry) -> None:
    assert entry.path.startswith("/")
    for name in entry.path.split("/")[1:] if entry.path != "/" else ():
        assert name not in {"", ".", ".."}
        assert "\0" not in name
        assert len(name.encode()) <= 255
    assert 0 <= entry.version.size < 10**18
    assert abs(entry.version.modified_s) <= _MOST_S
    for number in (entry.quota_free, entry.quota_used):
        assert number is None or 0 <= number < 10**18
    for text, most in (
        (entry.version.etag, 1024),
        (entry.version.checksum, 200),
        (entry.file_id, 64),
        (entry.permissions, 64),
        (entry.fingerprint, 1024),
        (entry.spelling, 1024),
    ):
        assert text is None or len(text) <= most
        (text or "").encode()  # it is kept in a database


def _entry(href: str, kind: str = "", status: str = "HTTP/1.1 200 OK") -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
        '<d:getcontentlength>4</d:getcontentlength><d:getetag>"5f"</d:getetag><oc:fileid>77</oc:fileid>'
        "<oc:permissions>RGDNVW</oc:permissions><oc:size>4</oc:size><nc:is-mount-root>false</nc:is-mount-root>"
        "<oc:checksums><oc:checksum>SHA1:a9993e364706816aba3e25717850c26c9cd0d89d</oc:checksum></oc:checksums>"
        "<d:quota-available-bytes>-3</d:quota-available-bytes><d:quota-used-bytes>12</d:quota-used-bytes>"
        "<d:getlastmodified>Sun, 13 Sep 2020 12:26:40 GMT</d:getlastmodified></d:prop>"
        f"<d:status>{status}</d:status></d:propstat><d:propstat><d:prop><oc:data-fingerprint/></d:prop>"
        "<d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>"
    )


def _listing(*entries: str) -> bytes:
    return f'<?xml version="1.0"?><d:multistatus {_NAMESPACES}>{"".join(entries)}</d:multistatus>'.encode()


_HOME = "/nc/remote.php/dav/files/alice/"
_COLLECTION = "<d:collection/>"
_LISTED = _listing(
    _entry(_HOME + "a/b/", _COLLECTION),
    _entry(_HOME + "a/b/c%20%C3%A4", ""),
    _entry(f"https://cloud.example.org{_HOME}a/b/u%CC%88", ""),
    _entry(_HOME + "a/b/d/", _COLLECTION),
    _entry("e", ""),
)
_XML_WORDS = (
    b"..", b"%2e%2e/", b"%2f", b"%00", b"&#0;", b"&#xfffe;", b"\xef\xbf\xbe", b"<!DOCTYPE a [", b"<!ENTITY b 'c'>",
    b"&b;", b"<![CDATA[", b"]]>", b"<!-- ", b" -->", b"<?pi?>", b"<d:href>", b"</d:href>", b"<d:response>",
    b"</d:response>", b"<d:collection/>", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500 X", b"//", b"http://[", b"xmlns=''",
    b"encoding='utf-16'", b"encoding='utf-7'", b"\xff\xfe", b"-1", b"9" * 30, b"Thu, 01 Jan 0001 00:00:00 -9999",
)  # fmt: skip

# --- single values and headers


def _read_headers(data: bytes) -> dict[str, str]:
    """Lines of a header, as HTTP hands them on: Latin-1, no line breaks."""
    lines = (line.partition(b":") for line in data[:8192].split(b"\n"))
    return {
        name.decode("latin-1").strip().title(): value.decode("latin-1").strip() for name, _, value in lines
    }


def _judge_headers(headers: dict[str, str]) -> None:
    get = _Headers(headers).get
    etag = etags.of_headers(_Headers(headers))
    if etags.can_match(etag):
        assert etags.if_match(etag).isascii()
    for text in headers.values():
        assert abs(values.http_date_s(text)) <= _MOST_S
        assert abs(values.whole_number(text) or 0) < 10**18
        start, stop, total = values.content_range(text) or (0, 0, 0)
        assert max(start, stop - 1, total) < 10**18
        assert len(values.best_checksum([text]) or "") <= 160
        assert (values.file_id_of_header(text) or "0").isdecimal()
    status = (values.whole_number(get("Status")) or 0) % 600
    failure = Failure("PUT", "/a", status, _Headers(headers), (get("Body") or "").encode())
    error = error_of_reply(failure)
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 3600
    assert len(error.message) < 600
    assert error.message.isprintable()
    _judge_range(_Headers(headers))


def _judge_range(headers: _Headers) -> None:
    expect = RemoteVersion("5f", 1000, 1600000000)
    for wanted in (reading.plan(10, 100, 1000), reading.plan(0, 1000, 1000)):
        for status in (200, 206):
            try:
                skip, length = reading.skip_of(wanted, status, headers, expect, NEXTCLOUD)
            except RemoteError:
                continue
            assert 0 <= skip <= wanted.start
            assert wanted.stop - wanted.start <= length - skip
            assert length <= 1000


class _Headers(dict[str, str]):
    """As of the HTTP library: whatever the case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.title(), default)


_HEADERS = (
    (
        b'ETag: W/"5f"\nOC-ETag: "5f"\nContent-Range: bytes 10-99/1000\nContent-Length: 90\nRetry-After: 120\n'
        b"OC-Checksum: SHA1:a9993e364706816aba3e25717850c26c9cd0d89d MD5:900150983cd24fb0d6963f7d28e17f72\n"
        b"OC-FileId: 00000077ocabcdefghij\nLast-Modified: Sun, 13 Sep 2020 12:26:40 GMT\nStatus: 503"
    ),
    (
        b'ETag: "5f"\nRetry-After: Sun, 13 Sep 2020 12:28:40 GMT\nDate: Sun, 13 Sep 2020 12:26:40 GMT\nStatus: 429\n'
        b"Body: <d:error xmlns:d='DAV:' xmlns:s='http://sabredav.org/ns'><s:exception>OCA\\X</s:exception>"
        b"<s:message>No \x1b[2J room</s:message></d:error>"
    ),
)
_HEADER_WORDS = (
    b"bytes ", b"bytes */10", b"0-0/1", b"99-10/1000", b"9" * 30, b"-1", b"W/", b'"', b"SHA256:", b"Sun, 06 Nov 1994",
    b"\nETag: ", b"\nContent-Range: ", b"\nRetry-After: ", b"\nContent-Encoding: gzip", b"\nBody: ", b"\nStatus: 500",
    b"\xb2", b"\x1b[2J", b"+99999999", b"31 Dec 9999 23:59:60 -2359",
)  # fmt: skip


def _read_body(data: bytes) -> list[bytes]:
    """The first byte tells how it is encoded and in what pieces it comes."""
    how, body = (data[0], data[1:]) if data else (0, b"")
    inflater = Inflater((None, "gzip", "deflate", "x-gzip")[how & 3])
    step = 5 if how & 4 else 1 << 16
    pieces: list[bytes] = []
    for start in range(0, len(body), step):
        for piece in inflater.feed(body[start : start + step]):
            _judge_pieces([piece])
            pieces = [*pieces[-3:], piece]
    inflater.close()
    return pieces


def _judge_pieces(pieces: list[bytes]) -> None:
    assert all(0 < len(piece) <= _PIECE_BYTES for piece in pieces)


# --- bulk, archives

_NEW = NewFile(RemotePath("/a"), b"content", 1600000000)


def _read_bulk(data: bytes) -> Stored | None:
    return bulk._stored(bulk._results(WholeReply(200, {}, data), "/a").get("/a"), _NEW)


def _judge_bulk(stored: Stored | None) -> None:
    if stored is None:
        return
    assert 0 < len(stored.etag.encode()) <= 1024
    assert (stored.file_id or "0").isdecimal()
    assert stored.modified_s == _NEW.mtime_s


_SIZES = {"a.txt": 7, "ü [1].md": 3000, "empty": 0}
_CONTENTS = {"a.txt": b"content", "ü [1].md": bytes(3000), "empty": b""}


def _read_archive(data: bytes) -> dict[str, bytes]:
    return archives.members(data, _SIZES)


def _judge_archive(found: dict[str, bytes]) -> None:
    for name, content in found.items():
        assert len(content) == _SIZES[name]


def _zip(*, zip64: bool) -> bytes:
    return b"".join(zipped([Member(name, 10**9, data) for name, data in _CONTENTS.items()], zip64=zip64))


# --- push, status, OCS


def _read_push(data: bytes) -> tuple[Sequence[Pushed | None], str]:
    heard = [push.heard_in(data), push.heard_in(data.decode(errors="replace"))]
    try:
        return heard, push.based_on(data.decode(errors="replace"), BASE_URL)
    except ValueError:
        return heard, ""


def _judge_push(result: tuple[Sequence[Pushed | None], str]) -> None:
    heard, url = result
    for pushed in heard:
        if pushed is not None and pushed.ids is not None:
            assert all(len(word) <= 20 and word.removeprefix("-").isdecimal() for word in pushed.ids)
    if url:
        assert url.startswith("wss://cloud.example.org/")
        assert url.isascii()
        assert url.isprintable()
        assert origin_of("http" + url.removeprefix("ws")) == ("https", "cloud.example.org", 443)


def _read_ocs(data: bytes) -> tuple[str, Space | Unlimited | None, Features | None]:
    """Each kind of answer in turn: what is none of one may be one of another."""
    status = ocs.read_status(WholeReply(200, {}, data))
    told, space, refused = None, None, None
    try:
        space = ocs.space_of(ocs.data_of(data, ocs.User, "/"))
    except RemoteError as error:
        refused = error
    try:
        told = connect.features_of(ocs.data_of(data, connect.Capabilities, "/").capabilities, "x", BASE_URL)
    except RemoteError:
        if refused is not None and status is None:
            raise
    return (status.name if status else ""), space, told


def _judge_ocs(result: tuple[str, Space | Unlimited | None, Features | None]) -> None:
    name, space, features = result
    assert name.isprintable()
    assert len(name) <= 200
    if space is not None:
        assert 0 <= space.used < 2**63
    if isinstance(space, Space):
        assert 0 <= space.free < 2**63
    if features is not None:
        _judge_push(([], features.push_url))
        rules = features.name_rules
        assert "" not in rules.forbidden_endings
        assert "/" not in rules.forbidden_characters


def _ocs(data: object) -> bytes:
    return json.dumps({"ocs": {"meta": {"statuscode": 200, "message": "OK"}, "data": data}}).encode()


_FILES = {
    "bigfilechunking": True,
    "blacklisted_files": [".htaccess"],
    "forbidden_filename_characters": ["\\", ":"],
    "forbidden_filename_basenames": ["con"],
    "forbidden_filename_extensions": ["."],
}
_CAPABILITIES = {
    "capabilities": {
        "dav": {"chunking": "1.0", "bulkupload": "1.0", "propfind": {"depth_infinity": True}},
        "files": _FILES,
        "notify_push": {"type": ["files"], "endpoints": {"websocket": "wss://x.example.org/push/ws"}},
    }
}

# --- SEARCH


class _Answering:
    """Stands for a session whose every answer is this one."""

    place = PLACE
    features = NEXTCLOUD

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def fetch(self, *_: object) -> WholeReply:
        return WholeReply(207, {}, self._body)


def _read_search(data: bytes) -> list[RemoteEntry]:
    site = connect.Site(PLACE.url, "alice", NEXTCLOUD, BASE_URL, "alice")
    return _done(search.identify(cast("Any", _Answering(data)), site, ["77"]))


def _done(work: Coroutine[Any, Any, list[RemoteEntry]]) -> list[RemoteEntry]:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("list[RemoteEntry]", end.value)
    raise AssertionError("it waits")


def _judge_search(found: list[RemoteEntry]) -> None:
    for entry in found:
        _judge_entry(entry)
        assert entry.file_id


def _read_error(data: bytes) -> tuple[str, str]:
    return parse_error(data)


def _judge_error(told: tuple[str, str]) -> None:
    assert "\\" not in told[0]
    "".join(told).encode()


_ERROR = (
    b'<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    b"<s:exception>OCP\\Files\\X</s:exception><s:message>No</s:message></d:error>"
)

# --- what is told of one object; logging in


def _judge_annotations(told: Annotations) -> None:
    for text in (told.owner, *told.tags, *told.shared_with):
        assert text == text.strip()
        text.encode()
    assert 0 <= told.comments < 10**18
    assert 0 <= told.unread_comments < 10**18


_ANNOTATED = _listing(
    "<d:response><d:href>/a</d:href><d:propstat><d:prop><oc:favorite>1</oc:favorite><oc:tags><oc:tag>x</oc:tag></oc:tags>"
    "<nc:system-tags><nc:system-tag>y</nc:system-tag></nc:system-tags><nc:sharees><nc:sharee><nc:type>1</nc:type>"
    "<nc:display-name>z</nc:display-name></nc:sharee></nc:sharees><oc:comments-count>3</oc:comments-count></d:prop>"
    "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
)


def _read_login(data: bytes) -> list[str]:
    """What begins a login by the browser; where that is none, an address alone."""
    try:
        begun = values.json_of(data, loginflow._Begun)
    except msgspec.DecodeError:
        return [loginflow.rebased(data.decode(errors="replace"), BASE_URL)]
    return [loginflow.rebased(url, BASE_URL) for url in (begun.login, begun.poll.endpoint)]


def _judge_login(urls: list[str]) -> None:
    for url in urls:
        assert url.startswith((f"{BASE_URL}login/v2/", f"{BASE_URL}index.php/login/v2/"))
        assert url.isascii()
        assert url.isprintable()
        assert not set("\"'<>\\`{}| ") & set(url)


HARNESSES: dict[str, Harness] = {
    "annotations": Harness(attached.annotations_in, _judge_annotations, [_ANNOTATED], _XML_WORDS),
    "archives": Harness(
        _read_archive,
        _judge_archive,
        [_zip(zip64=False), _zip(zip64=True)],
        (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"\xff" * 4, b"\xff" * 8, b"\1\0\x10\0"),
    ),
    "bodies": Harness(
        _read_body,
        _judge_pieces,
        [b"\1" + gzip.compress(bytes(300_000)), b"\5" + gzip.compress(b"abc"), b"\0abc"],
    ),
    "bulk": Harness(
        _read_bulk,
        _judge_bulk,
        [
            b'{"/a":{"error":false,"etag":"5f","fileid":"00000077ocabcdefghij"}}',
            b"[]",
            b'{"/a":{"error":true,"message":"x"}}',
        ],
        (b"\\ud800", b"[" * 3000, b'{"a":' * 3000, b"1e999", b"NaN", b"null", b'\\"', b"W/", b"\\u0000"),
    ),
    "errors": Harness(_read_error, _judge_error, [_ERROR], _XML_WORDS),
    "headers": Harness(_read_headers, _judge_headers, _HEADERS, _HEADER_WORDS),
    "listings": Harness(_read_listing, _judge_listing, [b"\0" + _LISTED, b"\x0c" + _LISTED], _XML_WORDS),
    "logins": Harness(
        _read_login,
        _judge_login,
        [
            b'{"poll":{"token":"t","endpoint":"https://x/nc/index.php/login/v2/poll"},"login":"https://x/login/v2/flow/aB3"}',
            b"https://cloud.example.org/nc/index.php/login/v2/flow/aB3?direct=1",
        ],
        (
            b"/login/v2/poll",
            b"/index.php",
            b"%0a",
            b"?",
            b"#",
            b"\\",
            b"//",
            b"@",
            b"\n",
            b"\\u0000",
            b"[::",
            b"javascript:",
        ),
    ),
    "ocs": Harness(
        _read_ocs,
        _judge_ocs,
        [
            b'{"installed":true,"maintenance":false,"version":"29.0.1.1","versionstring":"29.0.1","productname":"Nextcloud"}',
            _ocs(_CAPABILITIES),
            _ocs({"quota": {"free": 100, "used": 1, "quota": 1000}}),
        ],
        (b"\\ud800", b"[" * 3000, b'{"a":' * 3000, b"1e308", b"-1", b"9" * 30, b"null", b"\\u001b[2J", b'""'),
    ),
    "push": Harness(
        _read_push,
        _judge_push,
        [
            b"notify_file_id [1,2,77]",
            b"notify_file",
            b"wss://cloud.example.org/push/ws?a=b",
            b"authenticated",
        ],
        (
            b"9" * 30,
            b"[" * 3000,
            b"-1",
            b"notify_file_id ",
            b"wss://",
            b"//",
            b"\xc3\xa4",
            b"[::",
            b"@",
            b"\x1b",
            b" ",
        ),
    ),
    "search": Harness(
        _read_search,
        _judge_search,
        [_listing(_entry(_HOME + "a/b", ""), _entry(_HOME + "c/", _COLLECTION))],
        _XML_WORDS,
    ),
}
