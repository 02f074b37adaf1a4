"""What fuzzing, and reading with the same question, has found: each as it was, and what becomes of it now."""

from __future__ import annotations

import resource

import pytest

from cloudfs.errors import ProtocolViolation
from cloudfs.remote import bulk, dialect, ocs, push, values
from cloudfs.remote.entries import Listing
from cloudfs.remote.etags import normalise
from cloudfs.remote.exchange import WholeReply
from cloudfs.remote.hrefs import Place
from cloudfs.remote.multistatus import ListingParser
from cloudfs.remote.protocol import Pushed, Space
from cloudfs.types import RemotePath

PLACE = Place("http://h/dav/")
DEEP = b"[" * 100_000
MEMBER = (
    "<d:response><d:href>/dav/{href}</d:href><d:propstat><d:prop><d:resourcetype/>"
    "<d:getcontentlength>1</d:getcontentlength>{more}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
    "</d:response>"
)


def listed(*members: str, most: int = 1000) -> int:
    parser, listing = ListingParser(), Listing(PLACE, RemotePath("/"), 1, most_members=most)
    head = b'<d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">'
    count = len(list(listing.admit(parser.feed(head))))
    for member in members:
        count += len(list(listing.admit(parser.feed(member.encode()))))
    return (
        count
        + len(list(listing.admit(parser.feed(b"</d:multistatus>"))))
        + len(list(listing.admit(parser.close())))
    )


def test_a_status_of_brackets_is_none() -> None:
    assert ocs.read_status(WholeReply(200, {}, b'{"installed":true,"version":"1","x":' + DEEP)) is None


def test_an_ocs_answer_of_brackets_is_none() -> None:
    with pytest.raises(ProtocolViolation):
        ocs.data_of(b'{"ocs":{"meta":{"statuscode":200},"data":' + DEEP, ocs.User, "/")


@pytest.mark.parametrize("body", [DEEP, b'{"/a":' + DEEP, b'{"/a":{"error":false,"etag":"\\ud800"}}'])
def test_a_bulk_answer_that_is_none(body: bytes) -> None:
    """Brackets without end, and half a character, which no database takes."""
    with pytest.raises(ProtocolViolation):
        bulk._results(WholeReply(200, {}, body), "/a")


def test_names_of_servers_do_not_steer_a_terminal() -> None:
    status = ocs.Status(installed=True, version="29", productname="Next\x1b[2Jcloud\n\x07" + "x" * 5000)
    assert status.name.isprintable()
    assert len(status.name) <= 100


def test_a_websocket_that_no_request_can_name_is_none() -> None:
    for announced in ("wss://h/ä", "wss://h/a\x1b"):
        with pytest.raises(ValueError, match="HTTP"):
            push.based_on(announced, "https://cloud.example.org/")


def test_file_ids_that_no_server_has_are_no_ids() -> None:
    assert push.heard_in("notify_file_id [" + "3" * 30 + "]") == Pushed(None)


def test_space_is_a_number_of_bytes() -> None:
    told = b'{"ocs":{"meta":{"statuscode":200},"data":{"quota":{"free":1e300,"used":-5,"quota":1}}}}'
    space = ocs.space_of(ocs.data_of(told, ocs.User, "/"))
    assert space == Space(free=2**63 - 1, used=0)


def test_an_empty_ending_forbids_no_name() -> None:
    rules = dialect.nextcloud_names({"forbidden_filename_extensions": ["", "."]})
    assert rules.forbidden_endings == (".",)


def test_a_long_etag_is_none() -> None:
    assert normalise('"' + "e" * 1_000_000 + '"') == ""


@pytest.mark.parametrize("name", ["oc:fileid", "oc:permissions", "oc:data-fingerprint"])
def test_words_have_an_end(name: str) -> None:
    assert listed(MEMBER.format(href="a", more=f"<{name}>{'x' * 64}</{name}>")) == 1
    with pytest.raises(ProtocolViolation, match="1000 characters"):
        listed(MEMBER.format(href="a", more=f"<{name}>{'x' * 1000}</{name}>"))


def test_names_and_states_that_are_kept_have_an_end() -> None:
    with pytest.raises(ProtocolViolation, match="name without end"):
        listed(MEMBER.format(href="a", more=f"<d:{'x' * 2000}/>"))
    with pytest.raises(ProtocolViolation, match="without a status"):
        listed(MEMBER.format(href="a", more="").replace("200 OK", f"200 {'x' * 2000}"))


def test_a_listing_has_an_end_in_bytes_too() -> None:
    """500,000 members of a megabyte each would be half a terabyte, and pass every other bound."""
    large = f"<d:displayname>{'x' * 500_000}</d:displayname>"
    with pytest.raises(ProtocolViolation, match="larger than can be kept"):
        listed(*(MEMBER.format(href=f"a{number}", more=large) for number in range(6)), most=1000)
    # With as many members allowed as usual, so much is nothing.
    assert listed(*(MEMBER.format(href=f"a{number}", more=large) for number in range(6)), most=500_000) == 6


def test_long_texts_are_not_remembered() -> None:
    """A thousand dates of a megabyte each would stay in memory for as long as the process lives."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(80):
        assert values.http_date_s(f"{number} {'x' * 1_000_000}") == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 40 * 1024


def test_an_href_of_a_megabyte_is_refused_at_once() -> None:
    """It took minutes of the event loop to put its path together, segment by segment."""
    with pytest.raises(ProtocolViolation, match="address of 1000005 characters"):
        listed(MEMBER.format(href="a/" * 500_000, more=""))
    with pytest.raises(ProtocolViolation, match="not asked for"):
        listed(MEMBER.format(href="a/" * 30_000, more=""))


def test_what_is_remembered_is_the_same() -> None:
    calls: list[str] = []

    @values.remembered(4)
    def length(text: str) -> int:
        calls.append(text[:1])
        return len(text)

    assert [length("a"), length("a"), length("b" * 2000), length("b" * 2000)] == [1, 1, 2000, 2000]
    assert calls == ["a", "b", "b"]
