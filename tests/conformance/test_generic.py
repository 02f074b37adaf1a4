"""What cloudfs relies on at any WebDAV server. Known deviations are in `traits`, by server."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav, bare_etag, cut_put, once, start_of_second
from tests.conformance.traits import DeadProperty, FolderEtag, InfiniteDepth, MultiRange, SetMtime

CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)


def strong_etag(dav: Dav, target: Target, path: str) -> str:
    """The ETag as GET shows it, waited for where a fresh one is weak: no precondition is satisfied by that."""
    etag = str(dav.get(path).headers["ETag"])
    assert etag.startswith("W/") <= target.traits.fresh_etag_is_weak
    while etag.startswith("W/"):
        time.sleep(0.1)
        etag = str(dav.get(path).headers["ETag"])
    return etag


class TestReading:
    """GET and HEAD."""

    def test_whole_file(self, dav: Dav) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.get("f.bin")
        assert reply.status_code == 200
        assert reply.content == CONTENT
        assert reply.headers["Content-Length"] == str(SIZE)
        assert reply.headers["ETag"]
        assert reply.headers["Last-Modified"].endswith("GMT")

    def test_head_tells_length_and_etag(self, dav: Dav) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.request("HEAD", "f.bin")
        assert reply.status_code == 200
        assert reply.headers["Content-Length"] == str(SIZE)
        assert reply.headers["ETag"] == dav.get("f.bin").headers["ETag"]

    @pytest.mark.parametrize(
        ("sent", "first", "last"),
        [
            ("bytes=0-99", 0, 99),
            ("bytes=100-199", 100, 199),
            ("bytes=1000-", 1000, SIZE - 1),
            ("bytes=-24", SIZE - 24, SIZE - 1),
            ("bytes=1000-9999", 1000, SIZE - 1),
            ("bytes=7-7", 7, 7),
        ],
    )
    def test_range(self, dav: Dav, sent: str, first: int, last: int) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.get("f.bin", Range=sent)
        assert reply.status_code == 206
        assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
        assert reply.content == CONTENT[first : last + 1]

    def test_range_zero_zero(self, dav: Dav, target: Target) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.get("f.bin", Range="bytes=0-0")
        assert reply.status_code == 206
        whole = target.traits.range_zero_zero_is_whole_file
        assert reply.content == (CONTENT if whole else CONTENT[:1])

    def test_range_beyond_the_end_is_416(self, dav: Dav) -> None:
        dav.put("f.bin", CONTENT)
        assert dav.get("f.bin", Range=f"bytes={SIZE}-").status_code == 416

    def test_two_ranges(self, dav: Dav, target: Target) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.get("f.bin", Range="bytes=0-9,20-29")
        match target.traits.multi_range:
            case MultiRange.WHOLE_FILE:
                assert (reply.status_code, reply.content) == (200, CONTENT)
            case MultiRange.MULTIPART:
                assert reply.status_code == 206
                assert reply.headers["Content-Type"].startswith("multipart/byteranges")
            case MultiRange.LAST_RANGE:
                assert (reply.status_code, reply.content) == (206, CONTENT[20:30])

    def test_head_with_range(self, dav: Dav, target: Target) -> None:
        dav.put("f.bin", CONTENT)
        reply = dav.request("HEAD", "f.bin", Range="bytes=0-9")
        assert reply.status_code == target.traits.head_with_range

    def test_if_range_gives_the_whole_file_when_changed(self, dav: Dav, target: Target) -> None:
        dav.put("f.bin", CONTENT)
        etag = strong_etag(dav, target, "f.bin")
        assert dav.get("f.bin", Range="bytes=5-9", If_Range=etag).status_code == 206
        assert dav.get("f.bin", Range="bytes=5-9", If_Range='"other"').status_code == 200

    def test_if_match_on_get_detects_a_change(self, dav: Dav, target: Target) -> None:
        dav.put("f.bin", CONTENT)
        etag = strong_etag(dav, target, "f.bin")
        assert dav.get("f.bin", Range="bytes=5-9", If_Match=etag).status_code == 206
        assert dav.get("f.bin", Range="bytes=5-9", If_Match='"other"').status_code == 412

    def test_if_none_match_is_304(self, dav: Dav) -> None:
        dav.put("f.bin", CONTENT)
        etag = dav.get("f.bin").headers["ETag"]
        assert dav.get("f.bin", If_None_Match=etag).status_code == 304

    def test_empty_file(self, dav: Dav) -> None:
        dav.put("empty", b"")
        reply = dav.get("empty")
        assert (reply.status_code, reply.content) == (200, b"")
        assert dav.stat("empty").found["d:getcontentlength"] == "0"

    def test_missing_is_404(self, dav: Dav) -> None:
        assert dav.get("nope").status_code == 404
        assert dav.propfind("nope").status_code == 404


class TestWriting:
    """PUT."""

    def test_new_and_over(self, dav: Dav, target: Target) -> None:
        assert dav.request("PUT", "f", content=b"one").status_code == 201
        assert dav.request("PUT", "f", content=b"other").status_code == target.traits.put_over
        assert dav.get("f").content == b"other"

    def test_reply_has_the_final_etag(self, dav: Dav, target: Target) -> None:
        reply = dav.put("f", b"one")
        assert ("ETag" in reply.headers) == target.traits.put_reply_has_etag
        if target.traits.put_reply_has_etag:
            assert reply.headers["ETag"] == dav.get("f").headers["ETag"]

    def test_another_size_and_mtime_give_another_etag(self, dav: Dav) -> None:
        dav.put("f", b"one", X_OC_Mtime="1600000000")
        before = dav.get("f").headers["ETag"]
        dav.put("f", b"longer", X_OC_Mtime="1600000001")
        assert dav.get("f").headers["ETag"] != before

    def test_same_size_and_second_may_keep_the_etag(self, dav: Dav, target: Target) -> None:
        collided = False
        # A server that names versions more finely still has a grain, of a tick of its file system's clock.
        for _ in range(10):
            start_of_second()
            etags = []
            for content in (b"one", b"two"):
                dav.put("f", content)
                etags.append(bare_etag(dav.get("f").headers["ETag"]))
            collided = etags[0] == etags[1]
            if collided == target.traits.same_second_etag_collides:
                break
        assert collided == target.traits.same_second_etag_collides

    def test_if_match(self, dav: Dav, target: Target) -> None:
        dav.put("f", b"one")
        etag = strong_etag(dav, target, "f")
        enforced = target.traits.put_preconditions
        stale = dav.request("PUT", "f", content=b"stale", If_Match='"other"')
        assert stale.status_code == (412 if enforced else target.traits.put_over)
        if enforced:
            assert dav.get("f").content == b"one"
            assert dav.request("PUT", "f", content=b"new", If_Match=etag).status_code == 204

    def test_if_match_on_a_missing_file(self, dav: Dav, target: Target) -> None:
        reply = dav.request("PUT", "f", content=b"x", If_Match='"any"')
        refused = target.traits.put_preconditions and target.traits.if_match_needs_a_file
        assert reply.status_code == (412 if refused else 201)

    def test_create_only(self, dav: Dav, target: Target) -> None:
        assert dav.request("PUT", "f", content=b"one", If_None_Match="*").status_code == 201
        again = dav.request("PUT", "f", content=b"two", If_None_Match="*")
        assert again.status_code == (412 if target.traits.put_preconditions else target.traits.put_over)

    def test_missing_parent(self, dav: Dav, target: Target) -> None:
        assert dav.request("PUT", "no/f", content=b"x").status_code == target.traits.put_missing_parent

    def test_folder_in_the_way(self, dav: Dav) -> None:
        dav.mkcol("d")
        assert 400 <= dav.request("PUT", "d", content=b"x").status_code < 500

    def test_x_oc_mtime(self, dav: Dav, target: Target) -> None:
        known = target.traits
        reply = dav.put("f", b"x", X_OC_Mtime="1600000000")
        set_by_header = dav.stat("f").found["d:getlastmodified"] == "Sun, 13 Sep 2020 12:26:40 GMT"
        assert set_by_header == known.x_oc_mtime
        assert (reply.headers.get("X-OC-MTime") == "accepted") == known.x_oc_mtime_is_acknowledged
        if known.put_reply_has_etag:
            final = reply.headers["ETag"] == dav.get("f").headers["ETag"]
            assert final == known.etag_of_put_with_mtime_is_final

    def test_cut_overwrite(self, dav: Dav, target: Target) -> None:
        old, new = b"O" * 3_000_000, b"N" * 1_000_000
        dav.put("f", old)
        cut_put(dav, "f", new, announced_bytes=len(old))
        content = settled_content(dav, old, wait_s=10.0 if target.traits.cut_overwrite_truncates else 1.0)
        if target.traits.cut_overwrite_truncates:
            assert set(content) <= set(new)
            assert len(content) <= len(new)
        else:
            assert (set(content), len(content)) == (set(old), len(old))


def settled_content(dav: Dav, unchanged: bytes, wait_s: float) -> bytes:
    """The file's content once it has changed and stays, or after a while without a change."""
    last, deadline = unchanged, time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            reply = dav.get("f")
        except httpx.RemoteProtocolError:
            # Truncated while it was being sent: surely changed. wsgidav keeps such a connection open for 10 s.
            deadline = time.monotonic() + wait_s
            continue
        if reply.status_code == 200 and reply.content == last != unchanged:
            break
        last = reply.content if reply.status_code == 200 else last
        time.sleep(0.2)
    return last


class TestTree:
    """MKCOL, MOVE, COPY, DELETE."""

    def test_mkcol(self, dav: Dav, target: Target) -> None:
        assert dav.request("MKCOL", "d").status_code == 201
        assert dav.request("MKCOL", "d").status_code == target.traits.mkcol_existing
        assert dav.request("MKCOL", "no/d").status_code == 409
        assert dav.stat("d").is_folder

    def test_move_a_file(self, dav: Dav) -> None:
        dav.put("a", b"content")
        dav.mkcol("d")
        assert dav.transfer("MOVE", "a", "d/b", Overwrite="F").status_code == 201
        assert dav.get("a").status_code == 404
        assert dav.get("d/b").content == b"content"

    def test_move_a_folder(self, dav: Dav) -> None:
        dav.mkcol("d")
        dav.put("d/f", b"content")
        assert dav.transfer("MOVE", "d", "e", Overwrite="F").status_code == 201
        assert dav.get("e/f").content == b"content"
        assert dav.propfind("d").status_code == 404

    def test_overwrite_f_protects_the_target(self, dav: Dav) -> None:
        dav.put("a", b"a")
        dav.put("b", b"b")
        assert dav.transfer("MOVE", "a", "b", Overwrite="F").status_code == 412
        assert (dav.get("a").content, dav.get("b").content) == (b"a", b"b")

    def test_overwrite_t_replaces_the_target(self, dav: Dav) -> None:
        dav.put("a", b"a")
        dav.put("b", b"b")
        assert dav.transfer("MOVE", "a", "b", Overwrite="T").status_code == 204
        assert dav.get("b").content == b"a"
        assert dav.get("a").status_code == 404

    def test_no_overwrite_header_replaces_the_target(self, dav: Dav) -> None:
        dav.put("a", b"a")
        dav.put("b", b"b")
        assert dav.transfer("MOVE", "a", "b").status_code == 204

    def test_move_to_a_missing_parent(self, dav: Dav, target: Target) -> None:
        dav.put("a", b"a")
        moved = dav.transfer("MOVE", "a", "no/b", Overwrite="F")
        assert moved.status_code == target.traits.move_missing_parent
        assert dav.get("a").content == b"a"

    def test_move_of_nothing(self, dav: Dav, target: Target) -> None:
        moved = dav.transfer("MOVE", "no", "b", Overwrite="F")
        assert moved.status_code == target.traits.move_missing_source

    def test_copy(self, dav: Dav) -> None:
        dav.put("a", b"content")
        assert dav.transfer("COPY", "a", "b", Overwrite="F").status_code == 201
        assert (dav.get("a").content, dav.get("b").content) == (b"content", b"content")

    def test_delete(self, dav: Dav) -> None:
        dav.mkcol("d")
        dav.put("d/f")
        assert dav.request("DELETE", "d/f").status_code == 204
        assert dav.request("DELETE", "d/f").status_code == 404
        dav.put("d/g")
        assert dav.request("DELETE", "d/").status_code == 204, "a folder goes with everything in it"
        assert dav.propfind("d").status_code == 404


class TestListing:
    """PROPFIND."""

    def test_depth_one(self, dav: Dav) -> None:
        dav.mkcol("d")
        dav.put("d/f", b"12345")
        dav.put("g", b"1")
        listing = dav.listing()
        assert set(listing) == {"", "d/", "g"}
        assert listing[""].is_folder
        assert listing["d/"].is_folder
        assert not listing["g"].is_folder
        assert listing["g"].found["d:getcontentlength"] == "1"

    def test_depth_zero(self, dav: Dav) -> None:
        dav.put("g", b"1")
        assert set(dav.listing(depth="0")) == {""}

    def test_depth_infinity(self, dav: Dav, target: Target) -> None:
        dav.mkcol("d")
        dav.mkcol("d/e")
        dav.put("d/e/f", b"1")
        reply = dav.propfind("", depth="infinity")
        if target.traits.depth_infinity is InfiniteDepth.FORBIDDEN:
            assert reply.status_code == 403
        else:
            assert {entry.path for entry in dav.entries(reply)} == {"", "d/", "d/e/", "d/e/f"}

    def test_etag_is_the_one_of_get(self, dav: Dav, target: Target) -> None:
        dav.put("f", b"1")
        sent = strong_etag(dav, target, "f")
        listed = dav.stat("f").found["d:getetag"]
        assert bare_etag(listed) == bare_etag(sent)
        assert (listed == sent) == target.traits.listed_etag_is_quoted

    def test_folder_etag(self, dav: Dav, target: Target) -> None:
        dav.mkcol("d")
        dav.mkcol("d/e")
        before = dav.stat("d").found.get("d:getetag", "")
        dav.put("d/e/f", b"1")
        deep = dav.stat("d").found.get("d:getetag", "")
        dav.put("d/g", b"1")
        own = dav.stat("d").found.get("d:getetag", "")
        match target.traits.folder_etag:
            case FolderEtag.NONE:
                assert (before, deep, own) == ("", "", "")
            case FolderEtag.OWN:
                assert before == deep != own
            case FolderEtag.DEEP:
                assert before != deep != own

    def test_quota_properties(self, dav: Dav, target: Target) -> None:
        names = {"d:quota-used-bytes", "d:quota-available-bytes"}
        found = dav.stat("", *names).found
        assert (names <= found.keys()) == target.traits.quota_properties

    @pytest.mark.parametrize(
        "name",
        "with blank|a+b|100%|a%2fb|q?|h#|s;c|am&p|it's|quo\"te|colon:|[x]{y}|ünï|日本".split("|"),
    )
    def test_names_round_trip(self, dav: Dav, name: str) -> None:
        dav.put(name, b"content")
        assert name in dav.listing()
        assert dav.get(name).content == b"content"


class TestProperties:
    """PROPPATCH."""

    def test_lastmodified(self, dav: Dav, target: Target) -> None:
        dav.put("f", b"1")
        reply = dav.proppatch("f", "<d:lastmodified>1600000000</d:lastmodified>")
        status = dav.entries(reply)[0].statuses["d:lastmodified"]
        changed = dav.stat("f").found["d:getlastmodified"] == "Sun, 13 Sep 2020 12:26:40 GMT"
        expected = {
            SetMtime.SETS: (200, True),
            SetMtime.REFUSED: (403, False),
            SetMtime.IGNORED: (200, False),
        }
        assert (status, changed) == expected[target.traits.lastmodified]

    def test_dead_property(self, dav: Dav, target: Target) -> None:
        dav.put("f", b"1")
        reply = dav.proppatch("f", "<x:mark>hello</x:mark>")
        status = dav.entries(reply)[0].statuses["x:mark"]
        kept = dav.stat("f", "x:mark").found.get("x:mark") == "hello"
        expected = {
            DeadProperty.KEPT: (200, True),
            DeadProperty.REFUSED: (403, False),
            DeadProperty.LOST: (200, False),
        }
        assert (status, kept) == expected[target.traits.dead_property]


class TestAccess:
    """Credentials."""

    def test_wrong_password_is_401(self, target: Target) -> None:
        reply = once("PROPFIND", target.root_url, auth=(target.user, "wrong"))
        assert reply.status_code == 401

    def test_no_credentials_are_401_with_a_basic_challenge(self, target: Target) -> None:
        reply = once("PROPFIND", target.root_url)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"].lower().startswith("basic")
