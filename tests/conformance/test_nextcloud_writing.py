"""protocol.md §6 (PUT) and §9 (the other methods)."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from tests.conformance.conftest import Share, Target
from tests.conformance.dav import Dav, exception_of, message_of

MTIME = "1600000000"
MTIME_DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
PRECONDITION = "Sabre\\DAV\\Exception\\PreconditionFailed"


class TestPut:
    def test_reply(self, cloud: Dav) -> None:
        reply = cloud.request(
            "PUT", "f", content=b"data", X_OC_Mtime=MTIME, X_OC_CTime="1500000000", X_Hash="all"
        )
        assert reply.status_code == 201
        assert reply.headers["X-OC-MTime"] == reply.headers["X-OC-CTime"] == "accepted"
        assert reply.headers["ETag"] == reply.headers["OC-ETag"] == cloud.get("f").headers["ETag"]
        assert reply.headers["Content-Length"] == "0"
        for name in ("sha256", "sha1", "md5"):
            assert reply.headers[f"X-Hash-{name}"] == hashlib.new(name, b"data").hexdigest()

    @pytest.mark.parametrize("value", ["1600000000.75", "1600000000"])
    def test_mtime_is_whole_seconds(self, cloud: Dav, value: str) -> None:
        cloud.put("f", X_OC_Mtime=value)
        assert cloud.stat("f").found["d:getlastmodified"] == MTIME_DATE

    @pytest.mark.parametrize("value", ["0", "86400", "-1", "0x5f5e100", "abc"])
    def test_bad_mtime_is_500_but_stored(self, cloud: Dav, value: str) -> None:
        reply = cloud.request("PUT", "f", content=b"data", X_OC_Mtime=value)
        assert reply.status_code == 500
        assert exception_of(reply) == "InvalidArgumentException"
        assert cloud.get("f").content == b"data"

    def test_smallest_mtime(self, cloud: Dav) -> None:
        cloud.put("f", X_OC_Mtime="86401")
        assert cloud.stat("f").found["d:getlastmodified"] == "Fri, 02 Jan 1970 00:00:01 GMT"

    def test_bad_creation_time_is_500_but_stored(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"data", X_OC_CTime="5").status_code == 500
        assert cloud.get("f").content == b"data"

    @pytest.mark.parametrize("value", ["SHA1:" + "0" * 40, "junk", "SHA1:aa MD5:bb"])
    def test_checksum_is_stored_unverified(self, cloud: Dav, value: str) -> None:
        cloud.put("f", b"data", OC_Checksum=value)
        assert cloud.get("f").headers["OC-Checksum"] == value

    def test_put_without_checksum_clears_it(self, cloud: Dav) -> None:
        cloud.put("f", b"data", OC_Checksum="SHA1:aa")
        cloud.put("f", b"other")
        assert "OC-Checksum" not in cloud.get("f").headers

    def test_too_long_checksum_is_500_but_stored(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"data", OC_Checksum="SHA1:" + "0" * 251).status_code == 500
        assert cloud.get("f").content == b"data"

    def test_if_match(self, cloud: Dav) -> None:
        first = cloud.put("f", b"one", X_OC_Mtime=MTIME).headers["ETag"]
        reply = cloud.request("PUT", "f", content=b"two", If_Match=first, X_OC_Mtime="1600000001")
        assert reply.status_code == 204
        stale = cloud.request("PUT", "f", content=b"three", If_Match=first)
        assert (stale.status_code, exception_of(stale)) == (412, PRECONDITION)
        assert stale.headers["ETag"] == reply.headers["ETag"]
        assert cloud.get("f").content == b"two"

    def test_if_match_star_wants_a_file(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"1", If_Match="*").status_code == 412
        cloud.put("f")
        assert cloud.request("PUT", "f", content=b"1", If_Match="*").status_code == 204

    def test_if_none_match_star_creates_only(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"1", If_None_Match="*").status_code == 201
        again = cloud.request("PUT", "f", content=b"2", If_None_Match="*")
        assert (again.status_code, exception_of(again)) == (412, PRECONDITION)

    def test_if_header(self, cloud: Dav) -> None:
        current = cloud.put("f", b"1").headers["ETag"]
        assert cloud.request("PUT", "f", content=b"2", If='(["stale"])').status_code == 412
        assert cloud.request("PUT", "f", content=b"2", If=f"([{current}])").status_code == 204

    def test_if_header_about_nothing_is_404(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"2", If='(["any"])').status_code == 404

    def test_content_range_is_400(self, cloud: Dav) -> None:
        assert cloud.request("PUT", "f", content=b"data", Content_Range="bytes 0-3/4").status_code == 400

    def test_missing_parent_is_404(self, cloud: Dav) -> None:
        reply = cloud.request("PUT", "no/such/f", content=b"1")
        assert reply.status_code == 404
        assert message_of(reply).endswith("/no could not be located")

    def test_parent_is_a_file(self, cloud: Dav) -> None:
        cloud.put("f")
        reply = cloud.request("PUT", "f/x", content=b"1")
        assert (reply.status_code, message_of(reply)) == (404, "Node with name 'f' could not be found")

    def test_folder_in_the_way_is_409(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        assert message_of(cloud.request("PUT", "d", content=b"1")) == "PUT is not allowed on non-files."

    def test_chunked_body_behind_a_buffering_front_end(self, cloud: Dav) -> None:
        reply = cloud.client.put(cloud.url("f"), content=iter([b"x" * 300_000] * 4))
        assert reply.status_code == 201
        assert cloud.stat("f").found["d:getcontentlength"] == "1200000"

    def test_more_than_the_disk_holds_is_507(self, cloud: Dav) -> None:
        reply = cloud.request("PUT", "f", content=b"1", OC_Total_Length="1000000000000000")
        assert reply.status_code == 507
        assert "1000000000000000 required" in message_of(reply)
        assert cloud.get("f").status_code == 404

    def test_type_comes_from_the_extension(self, cloud: Dav) -> None:
        cloud.put("f.txt", Content_Type="application/pdf")
        assert cloud.stat("f.txt", "d:getcontenttype").found["d:getcontenttype"] == "text/plain"


class TestForeignHome:
    def test_looks_empty_and_takes_nothing(self, nextcloud: Target, cloud: Dav) -> None:
        other = "alice" if nextcloud.user != "alice" else "bob"
        foreign = Dav(cloud.client, f"{nextcloud.site_url}/remote.php/dav/files/{other}/")
        entry = foreign.stat("", "d:resourcetype", "d:getetag", "oc:fileid")
        assert entry.found == {"d:resourcetype": "d:collection"}
        assert foreign.propfind("x").status_code == 404
        assert foreign.request("PUT", "x", content=b"1").status_code == 403
        cloud.put("f")
        moved = cloud.request("MOVE", "f", Destination=foreign.url("f"))
        assert moved.status_code == 403


class TestMkcol:
    def test_reply_has_the_file_id(self, cloud: Dav) -> None:
        reply = cloud.mkcol("d")
        assert reply.headers["OC-FileId"] == cloud.stat("d", "oc:id").found["oc:id"]
        assert "ETag" not in reply.headers

    def test_trailing_slash_is_optional(self, cloud: Dav) -> None:
        cloud.mkcol("d/")
        assert cloud.stat("d").is_folder

    def test_existing_file_or_folder_is_405(self, cloud: Dav) -> None:
        cloud.put("f")
        cloud.mkcol("d")
        for name in ("f", "d"):
            reply = cloud.request("MKCOL", name)
            assert (reply.status_code, exception_of(reply)) == (
                405,
                "Sabre\\DAV\\Exception\\MethodNotAllowed",
            )

    def test_parent_missing_or_a_file_is_409(self, cloud: Dav) -> None:
        cloud.put("f")
        for path in ("no/d", "f/d"):
            assert cloud.request("MKCOL", path).status_code == 409

    def test_extended_sets_the_mtime(self, cloud: Dav) -> None:
        body = (
            '<d:mkcol xmlns:d="DAV:"><d:set><d:prop><d:resourcetype><d:collection/></d:resourcetype>'
            f"<d:lastmodified>{MTIME}</d:lastmodified></d:prop></d:set></d:mkcol>"
        )
        assert cloud.request("MKCOL", "d", content=body, Content_Type="application/xml").status_code == 201
        assert cloud.stat("d").found["d:getlastmodified"] == MTIME_DATE

    def test_body_that_is_no_xml_is_415(self, cloud: Dav) -> None:
        assert cloud.request("MKCOL", "d", content=b"zzz", Content_Type="text/plain").status_code == 415


class TestMove:
    def test_destination_as_a_path(self, cloud: Dav) -> None:
        cloud.put("f")
        path = httpx.URL(cloud.url("g")).raw_path.decode()
        assert cloud.request("MOVE", "f", Destination=path, Overwrite="F").status_code == 201

    def test_host_of_the_destination_does_not_count(self, cloud: Dav) -> None:
        cloud.put("f")
        path = httpx.URL(cloud.url("g")).raw_path.decode()
        reply = cloud.request("MOVE", "f", Destination=f"http://example.com{path}", Overwrite="F")
        assert reply.status_code == 201

    def test_destination_elsewhere_is_403(self, nextcloud: Target, cloud: Dav) -> None:
        cloud.put("f")
        assert cloud.request("MOVE", "f", Destination=f"{nextcloud.site_url}/other/x").status_code == 403

    def test_wrong_overwrite_is_400(self, cloud: Dav) -> None:
        cloud.put("f")
        assert cloud.transfer("MOVE", "f", "g", Overwrite="X").status_code == 400

    def test_onto_itself_is_403(self, cloud: Dav) -> None:
        cloud.put("f")
        assert cloud.transfer("MOVE", "f", "f").status_code == 403
        assert cloud.transfer("COPY", "f", "f").status_code == 403

    def test_into_itself_is_409(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        assert cloud.transfer("MOVE", "d", "d/e").status_code == 409

    @pytest.mark.parametrize("method", ["MOVE", "COPY"])
    def test_parent_of_the_destination_missing_is_409_and_a_file_415(self, cloud: Dav, method: str) -> None:
        cloud.put("f")
        cloud.put("g")
        assert cloud.transfer(method, "f", "no/f").status_code == 409
        assert cloud.transfer(method, "f", "g/f").status_code == 415

    def test_existing_destination_comes_before_missing_source(self, cloud: Dav) -> None:
        cloud.put("f")
        assert cloud.transfer("MOVE", "nope", "f", Overwrite="F").status_code == 412
        assert cloud.transfer("MOVE", "nope", "g", Overwrite="F").status_code == 404

    def test_if_match_is_about_the_source(self, cloud: Dav) -> None:
        current = cloud.put("f").headers["ETag"]
        assert cloud.transfer("MOVE", "f", "g", If_Match='"stale"').status_code == 412
        assert cloud.transfer("MOVE", "f", "g", If_Match=current).status_code == 201

    def test_if_is_about_the_target(self, cloud: Dav) -> None:
        cloud.put("f", b"source")
        current = cloud.put("g", b"target").headers["ETag"]
        stale = cloud.transfer("MOVE", "f", "g", If=f'<{cloud.url("g")}> (["stale"])')
        assert (stale.status_code, exception_of(stale)) == (412, PRECONDITION)
        assert cloud.transfer("MOVE", "f", "g", If=f"<{cloud.url('g')}> ([{current}])").status_code == 204


class TestDelete:
    def test_if_match(self, cloud: Dav) -> None:
        current = cloud.put("f").headers["ETag"]
        assert cloud.request("DELETE", "f", If_Match='"stale"').status_code == 412
        assert cloud.request("DELETE", "f", If_Match=current).status_code == 204

    def test_etag_of_a_folder_never_matches(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        current = cloud.stat("d").found["d:getetag"]
        assert cloud.request("DELETE", "d", If_Match=current).status_code == 412
        assert cloud.request("DELETE", "d", If=f"([{current}])").status_code == 412


class TestProppatch:
    def test_favorite(self, cloud: Dav) -> None:
        cloud.put("f")
        cloud.proppatch("f", "<oc:favorite>1</oc:favorite>")
        assert cloud.stat("f", "oc:favorite").found["oc:favorite"] == "1"
        cloud.proppatch("f", "<oc:favorite>0</oc:favorite>")
        assert cloud.stat("f", "oc:favorite").found["oc:favorite"] == "0"

    def test_tags(self, cloud: Dav) -> None:
        cloud.put("f")
        etag = cloud.stat("f").found["d:getetag"]
        cloud.proppatch("f", "<oc:tags><oc:tag>to do</oc:tag><oc:tag>ünï &amp; co</oc:tag></oc:tags>")
        told = cloud.propfind("f", "oc:tags").text
        assert "<oc:tags><oc:tag>to do</oc:tag><oc:tag>ünï &amp; co</oc:tag></oc:tags>" in told
        assert cloud.stat("f").found["d:getetag"] == etag

    @pytest.mark.parametrize("name", ["f", "d"])
    def test_lastmodified(self, cloud: Dav, name: str) -> None:
        cloud.put("f")
        cloud.mkcol("d")
        cloud.proppatch(name, "<d:lastmodified>1600000000.9</d:lastmodified>")
        assert cloud.stat(name).found["d:getlastmodified"] == MTIME_DATE

    def test_lastmodified_zero_is_403_and_a_date_500(self, cloud: Dav) -> None:
        cloud.put("f")
        reply = cloud.proppatch("f", "<d:lastmodified>0</d:lastmodified>")
        assert cloud.entries(reply)[0].statuses == {"d:lastmodified": 403}
        assert cloud.proppatch("f", f"<d:lastmodified>{MTIME_DATE}</d:lastmodified>").status_code == 500

    @pytest.mark.parametrize("name", ["d:getlastmodified", "d:displayname", "oc:permissions", "oc:fileid"])
    def test_protected_ones_are_403(self, cloud: Dav, name: str) -> None:
        cloud.put("f")
        reply = cloud.proppatch("f", f"<{name}>x</{name}>")
        assert cloud.entries(reply)[0].statuses == {name: 403}

    def test_all_or_nothing(self, cloud: Dav) -> None:
        cloud.put("f")
        reply = cloud.proppatch("f", "<oc:favorite>1</oc:favorite><oc:permissions>x</oc:permissions>")
        assert cloud.entries(reply)[0].statuses == {"oc:favorite": 424, "oc:permissions": 403}
        assert cloud.stat("f", "oc:favorite").found["oc:favorite"] == "0"

    def test_return_minimal_is_204(self, cloud: Dav) -> None:
        cloud.put("f")
        reply = cloud.proppatch("f", "<oc:favorite>1</oc:favorite>", Prefer="return=minimal")
        assert reply.status_code == 204

    def test_creation_times(self, cloud: Dav) -> None:
        cloud.put("f")
        cloud.proppatch("f", "<d:creationdate>2001-01-01T00:00:00+00:00</d:creationdate>")
        assert cloud.stat("f", "nc:creation_time").found["nc:creation_time"] == "978307200"
        cloud.proppatch("f", "<nc:creation_time>1500000000</nc:creation_time>")
        found = cloud.stat("f", "d:creationdate").found["d:creationdate"]
        assert found == "2017-07-14T02:40:00+00:00"

    def test_missing_is_404_and_if_match_counts(self, cloud: Dav) -> None:
        assert cloud.proppatch("nope", "<oc:favorite>1</oc:favorite>").status_code == 404
        cloud.put("f")
        assert cloud.proppatch("f", "<oc:favorite>1</oc:favorite>", If_Match='"stale"').status_code == 412

    def test_dead_property(self, cloud: Dav) -> None:
        cloud.put("f")
        cloud.proppatch("f", "<x:mark>a &lt; b</x:mark>")
        assert cloud.stat("f", "x:mark").found["x:mark"] == "a < b"
        assert cloud.transfer("MOVE", "f", "g").status_code == 201
        assert cloud.stat("g", "x:mark").found["x:mark"] == "a < b"
        assert cloud.transfer("COPY", "g", "h").status_code == 201
        assert "x:mark" not in cloud.stat("h", "x:mark").found

    def test_dead_properties_below_a_renamed_folder_are_lost(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f")
        for path in ("d", "d/f"):
            cloud.proppatch(path, "<x:mark>here</x:mark>")
        assert cloud.transfer("MOVE", "d", "e").status_code == 201
        assert "x:mark" in cloud.stat("e", "x:mark").found
        assert "x:mark" not in cloud.stat("e/f", "x:mark").found


class TestPatch:
    @pytest.mark.parametrize("name", ["sha256", "sha1", "md5", "adler32", "crc32"])
    def test_computes_and_stores_a_checksum(self, cloud: Dav, name: str) -> None:
        current = cloud.put("f", b"data").headers["ETag"]
        reply = cloud.request("PATCH", "f", X_Recalculate_Hash=name)
        assert reply.status_code == 204
        assert reply.headers["OC-Checksum"].startswith(f"{name.upper()}:")
        after = cloud.get("f").headers
        assert (after["OC-Checksum"], after["ETag"]) == (reply.headers["OC-Checksum"], current)

    def test_only_of_the_version_that_is_named(self, cloud: Dav) -> None:
        current = cloud.put("f", b"data").headers["ETag"]
        stale = cloud.request("PATCH", "f", X_Recalculate_Hash="sha1", If_Match='"another"')
        assert stale.status_code == 412
        assert cloud.request("PATCH", "f", X_Recalculate_Hash="sha1", If_Match=current).status_code == 204


class TestMovesInShares:
    """§2.2, §9: what another account lets us do with the names in its share. 2 update, 4 create, 8 delete."""

    @pytest.mark.parametrize("allowed", [1, 3, 5, 7, 9, 11, 13, 15])
    def test_what_may_be_renamed_moved_out_and_moved_in(
        self, received: tuple[Dav, Share], allowed: int
    ) -> None:
        """A rename is a change; to another folder it is a removal there and a creation here."""
        root, share = received
        own, inside = f"own-{share.name}", share.name
        root.mkcol(own)
        root.put(f"{own}/file")
        for name in ("other", "leaving"):
            root.put(f"{inside}/{name}")
        share.allow(allowed)
        moves = {
            "rename": (f"{inside}/other", f"{inside}/renamed"),
            "within": (f"{inside}/sub/file", f"{inside}/file"),
            "out": (f"{inside}/leaving", f"{own}/leaving"),
            "in": (f"{own}/file", f"{inside}/came"),
        }
        done = {
            what
            for what, (path, to) in moves.items()
            if root.transfer("MOVE", path, to, Overwrite="F").status_code == 201
        }
        root.request("DELETE", own)
        expected = {
            "rename": allowed & 2,
            "within": allowed & 12 == 12,
            "out": allowed & 8,
            "in": allowed & 4,
        }
        assert done == {what for what, may in expected.items() if may}
