"""Listings: ordinary ones of five servers, and hostile ones."""

from __future__ import annotations

import gc
import gzip
import resource
import subprocess
import sys
import weakref

import pytest
import trio

from cloudfs.errors import ProtocolViolation, ServerFault
from cloudfs.remote.attached import annotations_in
from cloudfs.remote.bodies import Inflater
from cloudfs.remote.entries import Listing
from cloudfs.remote.hrefs import Place
from cloudfs.remote.multistatus import ListingParser, parse_error, parse_members, read_members
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion

PLACE = Place("http://h/dav/")
ROOT = RemotePath("/")


def response(
    href: str, properties: str = "<d:resourcetype/><d:getcontentlength>1</d:getcontentlength>"
) -> str:
    status = "<d:status>HTTP/1.1 200 OK</d:status>"
    propstat = f"<d:propstat><d:prop>{properties}</d:prop>{status}</d:propstat>"
    return f"<d:response><d:href>{href}</d:href>{propstat}</d:response>"


FOLDER = "<d:resourcetype><d:collection/></d:resourcetype>"


def multistatus(*responses: str) -> bytes:
    namespaces = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"'
    return f'<?xml version="1.0"?>\n<d:multistatus {namespaces}>{"".join(responses)}</d:multistatus>'.encode()


def entries(
    body: bytes, depth: int | None = 1, folder: RemotePath = ROOT, step: int = 1 << 16
) -> list[RemoteEntry]:
    parser, listing = ListingParser(), Listing(PLACE, folder, depth)
    found: list[RemoteEntry] = []
    for start in range(0, len(body), step):
        found.extend(listing.admit(parser.feed(body[start : start + step])))
    found.extend(listing.admit(parser.close()))
    found.extend(listing.finish())
    return found


def test_nextcloud() -> None:
    properties = (
        "<d:resourcetype/><d:getlastmodified>Sun, 22 Nov 2026 10:59:01 GMT</d:getlastmodified>"
        "<d:getcontentlength>7</d:getcontentlength><d:getetag>&quot;abc&quot;</d:getetag><oc:fileid>49</oc:fileid>"
        "<oc:permissions>RGDNVW</oc:permissions><oc:size>7</oc:size>"
        f"<oc:checksums><oc:checksum>SHA1:{'a' * 40}</oc:checksum></oc:checksums>"
        "<nc:is-mount-root>false</nc:is-mount-root>"
    )
    (entry,) = entries(multistatus(response("/dav/a%20b.txt", properties)))
    version = RemoteVersion("abc", 7, 1795345141, "SHA1:" + "a" * 40)
    assert entry == RemoteEntry(RemotePath("/a b.txt"), Kind.FILE, version, "49", "RGDNVW")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_a_body_in_pieces_is_the_same(step: int) -> None:
    body = multistatus(response("/dav/", FOLDER), response("/dav/%ef%bf%be"), response("/dav/x", FOLDER))
    assert entries(body, step=step) == entries(body)
    assert [entry.kind for entry in entries(body, step=step)] == [Kind.FOLDER, Kind.FILE, Kind.FOLDER]


def test_properties_that_failed_are_not_there() -> None:
    prop = "<d:prop><d:getetag>x</d:getetag></d:prop>"
    failed = f"<d:propstat>{prop}<d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>"
    (entry,) = entries(multistatus(response("/dav/a").replace("</d:href>", f"</d:href>{failed}")))
    assert entry.version.etag == ""


def test_prefixes_are_the_servers_choice() -> None:
    body = (
        b'<multistatus xmlns="DAV:"><response><href>/dav/</href><propstat><prop><resourcetype>'
        b'<x:collection xmlns:x="DAV:"/></resourcetype></prop>'
        b"<status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
    )
    assert entries(body)[0].kind is Kind.FOLDER


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_characters_that_no_xml_may_contain_are_neutralised(step: int) -> None:
    """One such file name must not make a folder unreadable (protocol.md, rule 13)."""
    dirty = b"<d:displayname>a\xef\xbf\xbeb\xef\xbf\xbfc\x01\x1f</d:displayname><d:resourcetype/>"
    properties = dirty + b"<d:getcontentlength>1</d:getcontentlength>"
    body = multistatus(response("/dav/a", "PROPERTIES")).replace(b"PROPERTIES", properties)
    assert [entry.path for entry in entries(body, step=step)] == ["/a"]


def test_an_object_that_vanished_meanwhile_is_left_out() -> None:
    gone = "<d:response><d:href>/dav/gone</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>"
    assert entries(multistatus(gone, response("/dav/a")))[0].path == "/a"


def test_an_object_that_cannot_be_listed_spoils_the_listing() -> None:
    broken = "<d:response><d:href>/dav/x</d:href><d:status>HTTP/1.1 500 Oops</d:status></d:response>"
    with pytest.raises(ServerFault):
        entries(multistatus(broken, response("/dav/a")))


@pytest.mark.parametrize(
    "responses",
    [
        [response("/dav/../etc/passwd")],
        [response("/dav/%2e%2e/x")],
        [response("/dav/x/a%2fb")],
        [response("/dav/..%2fb")],
        [response("http://evil.example.org/dav/bad%ff")],
        [response("/elsewhere/x")],
        [response("http://evil.example.org/dav/x")],
        [response("/elsewhere/bad%ff")],
        [response("/dav/bad%ff/x")],
        [response("/dav/e%cc%81"), response("/dav/e%CC%81")],
        [response("/dav/a"), response("/dav/%61")],
        [response("/dav/a"), response("/dav/a/")],
        [response("/dav/a/deeper")],
        [response("")],
        [response("/dav/a", "<d:getcontentlength>1</d:getcontentlength>")],
        [response("/dav/a", "<d:resourcetype/>")],
        [response("/dav/a", "<d:resourcetype/><d:getcontentlength>-7</d:getcontentlength>")],
        [response("/dav/a", "<d:resourcetype/><d:getcontentlength>1e3</d:getcontentlength>")],
        [response("/dav/a").replace("HTTP/1.1 200 OK", "fine")],
        [f"<d:folder>{response('/dav/a')}</d:folder>"],
    ],
)
def test_hostile_listings_are_refused(responses: list[str]) -> None:
    with pytest.raises(ProtocolViolation):
        entries(multistatus(response("/dav/", FOLDER), *responses))


@pytest.mark.parametrize(
    ("odd", "folder"),
    [
        ("/dav/bad%ff", "/"),
        ("/dav/a%2fb", "/"),
        ("/dav/a%00b/", "/"),
        ("bad%ff", "/"),
        ("http://h/dav/bad%ff", "/"),
        ("/dav/f/bad%ff", "/f"),
        ("bad%ff/", "/f"),
        ("/dav/" + "n" * 256, "/"),
        ("/dav/" + "%c3%a4" * 5000, "/"),
    ],
)
def test_a_member_whose_name_no_file_can_have_is_left_out_and_counted(odd: str, folder: str) -> None:
    """One such name must not make its whole folder unreadable."""
    above = folder.rstrip("/")
    body = multistatus(response(f"/dav{above}/", FOLDER), response(odd), response(f"/dav{above}/a"))
    parser, listing = ListingParser(), Listing(PLACE, RemotePath(folder), 1)
    found = [*listing.admit([*parser.feed(body), *parser.close()]), *listing.finish()]
    assert [entry.path for entry in found] == [folder, f"{above}/a"]
    assert (listing.hidden_members, listing.first_hidden) == (1, odd)


def test_a_member_that_vanished_is_not_hidden() -> None:
    gone = "<d:response><d:href>/dav/%ff</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>"
    listing = Listing(PLACE, ROOT, 1)
    assert list(listing.admit(parse_members(multistatus(gone)))) == []
    assert listing.hidden_members == 0


@pytest.mark.parametrize("order", ["composed first", "composed last", "twice decomposed"])
def test_of_names_that_are_one_here_the_one_that_can_be_asked_for_is_kept(order: str) -> None:
    """Requests carry the composed form, so an entry of the other would be about another file."""
    sizes = {"/dav/%C3%A9%cc%a3": 1, "/dav/e%cc%a3%cc%81": 2, "/dav/%E1%BA%B9%cc%81": 3}
    hrefs = list(sizes)
    if order == "composed first":
        hrefs.reverse()
    elif order == "twice decomposed":
        hrefs.pop()
    properties = "<d:resourcetype/><d:getcontentlength>{}</d:getcontentlength>"
    parser, listing = ListingParser(), Listing(PLACE, ROOT, 1)
    body = multistatus(*(response(href, properties.format(sizes[href])) for href in hrefs))
    found = [*listing.admit([*parser.feed(body), *parser.close()]), *listing.finish()]
    assert [(entry.path, entry.version.size) for entry in found] == [
        ("/\u1eb9\u0301", 1 if order == "twice decomposed" else 3)
    ]
    assert listing.hidden_members == len(hrefs) - 1


@pytest.mark.parametrize("depth", [0, None])
def test_only_the_listing_of_one_folder_leaves_names_out(depth: int | None) -> None:
    """A tree without some of its members has nobody who could be told."""
    with pytest.raises(ProtocolViolation):
        entries(multistatus(response("/dav/", FOLDER), response("/dav/bad%ff")), depth)
    with pytest.raises(ProtocolViolation):
        entries(
            multistatus(response("/dav/", FOLDER), response("/dav/e%cc%81"), response("/dav/%c3%a9")), depth
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Please log in</body></html>",
        b"<!DOCTYPE html><html/>",
        b"not xml",
        b"\x1f\x8b\x08\x00garbage",
        '<?xml version="1.0" encoding="utf-16"?><d:multistatus xmlns:d="DAV:"/>'.encode("utf-16"),
        b'<d:multistatus xmlns:d="DAV:"><d:response>',
        b'<d:error xmlns:d="DAV:"/>',
        multistatus(response("/dav/a"))[:-1],
        multistatus(response("/dav/a")) + b"<more/>",
    ],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        entries(body)


@pytest.mark.parametrize("cut", range(1, 260, 7))
def test_a_cut_listing_is_refused_wherever_it_is_cut(cut: int) -> None:
    body = multistatus(response("/dav/", FOLDER), response("/dav/a"))
    with pytest.raises(ProtocolViolation):
        entries(body[:-cut])


def test_entity_bombs_are_refused_before_they_go_off() -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE d [<!ENTITY e0 "ha">{levels}]><d:multistatus xmlns:d="DAV:">&e9;</d:multistatus>'
    for step in (1, 4096):
        with pytest.raises(ProtocolViolation, match="document type"):
            entries(bomb.encode(), step=step)


def test_external_entities_are_refused() -> None:
    body = b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + multistatus(response("/dav/&x;"))
    with pytest.raises(ProtocolViolation):
        entries(body)


def feed_often(parser: ListingParser, piece: bytes) -> None:
    for _ in range(40):
        parser.feed(piece)


def test_one_object_cannot_fill_the_memory() -> None:
    parser = ListingParser()
    parser.feed(b'<d:multistatus xmlns:d="DAV:"><d:response><d:href>')
    with pytest.raises(ProtocolViolation):
        feed_often(parser, b"a" * 65536)


def test_elements_between_the_objects_cannot_either() -> None:
    parser = ListingParser()
    parser.feed(b'<d:multistatus xmlns:d="DAV:">')
    with pytest.raises(ProtocolViolation):
        feed_often(parser, b"<x/>" * 16384)


def test_long_listings_are_not_held() -> None:
    """What was read is let go: 8 MB of listing would take 60 MB as a tree."""
    parser = ListingParser()
    parser.feed(b'<d:multistatus xmlns:d="DAV:">')
    piece = "".join(response("/dav/x", FOLDER) for _ in range(300)).encode()
    parser.feed(piece)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(8_000_000 // len(piece)):
        assert len(parser.feed(piece)) in {299, 300, 301}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 15_000


def test_gzip_is_undone_in_small_pieces_and_checked_to_the_end() -> None:
    body = b"0" * 5_000_000
    packed = gzip.compress(body)
    inflater = Inflater("gzip")
    pieces = list(inflater.feed(packed))
    inflater.close()
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 65536
    inflater = Inflater("gzip")
    list(inflater.feed(packed[:-9]))
    with pytest.raises(ProtocolViolation):
        inflater.close()
    with pytest.raises(ProtocolViolation):
        list(Inflater("gzip").feed(b"no gzip"))
    with pytest.raises(ProtocolViolation):
        Inflater("br")


def test_what_comes_behind_the_end_of_gzip_is_refused() -> None:
    """Zlib keeps all of it, and copies that with each piece: a server that goes on for ever would fill the memory."""
    packed = gzip.compress(b"<a/>")
    with pytest.raises(ProtocolViolation, match="goes on"):
        list(Inflater("gzip").feed(packed + b"x"))
    inflater = Inflater("gzip")
    assert b"".join(inflater.feed(packed)) == b"<a/>"
    with pytest.raises(ProtocolViolation, match="goes on"):
        list(inflater.feed(b"x"))


async def test_a_reply_full_of_small_things_holds_up_nothing_else() -> None:
    """Read in one go on the loop, 4 MiB of empty objects would stop all else for two seconds."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        body = b"<d:multistatus xmlns:d='DAV:'>" + b"<d:response/>" * 20_000 + b"</d:multistatus>"
        assert len(await read_members(body)) == 20_000
        nursery.cancel_scope.cancel()
    assert turns > 1


def test_a_document_that_is_read_whole_is_short() -> None:
    """As a tree it takes forty times its length."""
    with pytest.raises(ProtocolViolation, match="larger than"):
        annotations_in(b"<d:multistatus xmlns:d='DAV:'>" + b"<a/>" * 100_000 + b"</d:multistatus>")


def test_error_bodies() -> None:
    body = (
        b'<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
        b"<s:exception>OCP\\Lock\\LockedException</s:exception><s:message>busy</s:message></d:error>"
    )
    assert parse_error(body) == ("LockedException", "busy")
    for other in (b"", b"<html/>", b"oops", b"<!DOCTYPE x><d/>", body[:-3]):
        assert parse_error(other) == ("", "")


def test_members_of_a_failed_change() -> None:
    body = multistatus(
        "<d:response><d:href>/dav/a</d:href><d:status>HTTP/1.1 423 Locked</d:status></d:response>"
    )
    assert [member.status for member in parse_members(body)] == [423]


def test_a_listing_without_end_is_refused() -> None:
    listing = Listing(PLACE, ROOT, 1, most_members=100)
    parser = ListingParser()
    body = multistatus(response("/dav/", FOLDER), *(response(f"/dav/{number}") for number in range(1000)))
    with pytest.raises(ProtocolViolation, match="more than 100 members"):
        for _ in listing.admit(parser.feed(body) + parser.close()):
            pass
    assert len(listing._seen) == 101


_INVENTING = """
from cloudfs.remote.multistatus import ListingParser, parse_error

def grown(numbers):
    for number in numbers:
        parser = ListingParser()
        parser.feed(b'<d:multistatus xmlns:d="DAV:">')
        for member in range(10):
            names = "".join(f'<n{number}_{member}_{i} a{number}_{member}_{i}="1"/>' for i in range(40))
            told = f"<d:propstat><d:prop>{names}</d:prop><d:status>HTTP/1.1 404 no</d:status></d:propstat>"
            parser.feed(f"<d:response><d:href>/</d:href>{told}</d:response>".encode())
            parse_error(f"<d:error xmlns:d='DAV:'>{names}</d:error>".encode())
    return int(open("/proc/self/statm").read().split()[1]) * 4096

first = grown(range(100))
print(grown(range(100, 350)) - first)
"""


def test_names_that_a_server_invents_do_not_stay() -> None:
    """200,000 of them, in elements and attributes: libxml2 would keep them in 12 MB."""
    done = subprocess.run(
        [sys.executable, "-c", _INVENTING], check=True, capture_output=True, text=True, timeout=120
    )
    assert int(done.stdout) < 3 << 20


@pytest.mark.parametrize(
    "what", ["<n{0}/>", '<d:x a{0}=""/>', '<d:x xmlns:p{0}="urn:x"/>', '<d:x xmlns="urn:{0}"/>']
)
def test_a_listing_with_names_without_end_is_refused(what: str) -> None:
    """Within one, expat keeps them, too."""
    parser = ListingParser()
    parser.feed(b'<d:multistatus xmlns:d="DAV:">')
    with pytest.raises(ProtocolViolation, match="names of properties without end"):
        for number in range(2000):
            parser.feed(f"<d:response><d:href>/</d:href>{what.format(number)}</d:response>".encode())


def test_a_parser_goes_with_its_listing() -> None:
    """Not whenever somebody looks for circles: each has some ten KiB that nobody counts."""
    gc.disable()
    try:
        for end in (b"</d:multistatus>", b""):
            parser = ListingParser()
            gone = weakref.ref(parser._reader)
            parser.feed(b'<d:multistatus xmlns:d="DAV:"><d:response>' + end)
            del parser
            assert gone() is None
    finally:
        gc.enable()
