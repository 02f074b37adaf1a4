"""protocol.md §3: ETags, file ids, and what changes them."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import Share
from tests.conformance.dav import Dav, start_of_second

MTIME = "1600000000"


def etag(cloud: Dav, path: str = "") -> str:
    return cloud.stat(path, "d:getetag").found["d:getetag"]


def file_id(cloud: Dav, path: str) -> str:
    return cloud.stat(path, "oc:fileid").found["oc:fileid"]


class TestChains:
    """What changes which ETags, checked with the very next request."""

    @pytest.fixture
    def tree(self, cloud: Dav) -> Dav:
        for path in ("a", "a/b", "other"):
            cloud.mkcol(path)
        cloud.put("a/b/f", b"content", X_OC_Mtime=MTIME)
        cloud.put("a/b/sibling", b"content", X_OC_Mtime=MTIME)
        return cloud

    def check(self, tree: Dav, change: object, changed: set[str]) -> None:
        assert callable(change)
        paths = ["", "a", "a/b", "other", "a/b/sibling"]
        before = {path: etag(tree, path) for path in paths}
        assert change().status_code in {200, 201, 204, 207}
        assert {path for path in paths if etag(tree, path) != before[path]} == changed

    def test_overwrite(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.put("a/b/f", b"new", X_OC_Mtime="1600000001"), {"", "a", "a/b"})

    def test_create(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.put("a/b/g"), {"", "a", "a/b"})

    def test_mkcol(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.mkcol("a/b/c"), {"", "a", "a/b"})

    def test_delete(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.request("DELETE", "a/b/f"), {"", "a", "a/b"})

    def test_rename(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.transfer("MOVE", "a/b/f", "a/b/g"), {"", "a", "a/b"})

    def test_move_changes_both_chains(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.transfer("MOVE", "a/b/f", "other/f"), {"", "a", "a/b", "other"})

    def test_copy_in(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.transfer("COPY", "a/b/f", "other/f"), {"", "other"})

    def test_lastmodified_of_a_file(self, tree: Dav) -> None:
        before = etag(tree, "a/b/f")
        change = "<d:lastmodified>1600000005</d:lastmodified>"
        self.check(tree, lambda: tree.proppatch("a/b/f", change), {"", "a", "a/b"})
        assert etag(tree, "a/b/f") != before

    def test_lastmodified_of_a_folder(self, tree: Dav) -> None:
        change = "<d:lastmodified>1600000005</d:lastmodified>"
        self.check(tree, lambda: tree.proppatch("a/b", change), {"", "a", "a/b"})

    @pytest.mark.parametrize(
        "change",
        [
            "<oc:favorite>1</oc:favorite>",
            "<x:mark>1</x:mark>",
            "<nc:creation_time>1500000000</nc:creation_time>",
        ],
    )
    def test_favourite_dead_property_creation_time_change_nothing(self, tree: Dav, change: str) -> None:
        before = etag(tree, "a/b/f")
        self.check(tree, lambda: tree.proppatch("a/b/f", change), set())
        assert etag(tree, "a/b/f") == before

    def test_get_changes_nothing(self, tree: Dav) -> None:
        self.check(tree, lambda: tree.get("a/b/f"), set())


class TestShares:
    """§3.1: what another account lets us do in a share of its own, which it edits."""

    PROPERTIES = ("d:getetag", "oc:permissions")

    def seen(self, root: Dav, share: Share) -> dict[str, tuple[str, str]]:
        """Return ETag and letters of the share as the root lists it, and of what is in it."""
        inside = [f"{share.name}/{path}" for path in ("sub", "sub/file")]
        entries = {path: root.stat(path, *self.PROPERTIES) for path in inside}
        listed = root.listing("", *self.PROPERTIES)[f"{share.name}/"]
        return {
            path: (entry.found["d:getetag"], entry.found["oc:permissions"])
            for path, entry in {"": listed, **entries}.items()
        }

    def edit(self, root: Dav, share: Share, allowed: int) -> set[str]:
        """Edit; return whose letters changed. Always the root's ETag changes, and none of the share."""
        before, root_before = self.seen(root, share), etag(root)
        share.allow(allowed)
        after = self.seen(root, share)
        assert etag(root) != root_before
        assert {path: of for path, (of, _) in after.items()} == {path: of for path, (of, _) in before.items()}
        return {path.removeprefix(f"{share.name}/") for path in after if after[path] != before[path]}

    def test_an_edited_share_changes_the_etags_above_it_alone(self, received: tuple[Dav, Share]) -> None:
        assert self.edit(*received, 1) == {"", "sub", "sub/file"}
        assert self.edit(*received, 31) == {"", "sub", "sub/file"}

    def test_whether_files_may_be_deleted_shows_in_their_letters_alone(
        self, received: tuple[Dav, Share]
    ) -> None:
        """The root of a share can always be deleted: that is to leave it (§2.2)."""
        assert self.edit(*received, 23) == {"sub", "sub/file"}


class TestCollisions:
    """§3.2: an overwrite keeps the ETag as long as the mtime second stays."""

    def test_fixed_mtime_and_size_give_one_etag(self, cloud: Dav) -> None:
        etags = {cloud.put("f", b"%d" % number, X_OC_Mtime=MTIME).headers["ETag"] for number in range(5)}
        assert len(etags) == 1

    def test_fixed_mtime_another_size_gives_another_etag(self, cloud: Dav) -> None:
        etags = [cloud.put("f", b"x" * size, X_OC_Mtime=MTIME).headers["ETag"] for size in (3, 6, 9, 3)]
        assert len(set(etags)) == 3
        assert etags[0] == etags[3]

    def test_another_mtime_gives_another_etag(self, cloud: Dav) -> None:
        etags = {
            cloud.put("f", b"123", X_OC_Mtime=str(1600000000 + number)).headers["ETag"] for number in range(3)
        }
        assert len(etags) == 3

    def test_same_second_keeps_the_etag_even_with_another_size(self, cloud: Dav) -> None:
        """Without X-OC-Mtime. Tried again when the second turned in between."""
        same = False
        for _ in range(10):
            start_of_second()
            etags = [cloud.put("f", content).headers["ETag"] for content in (b"one", b"longer")]
            same = etags[0] == etags[1]
            if same:
                break
        assert same
        assert cloud.get("f").content == b"longer"

    def test_if_match_passes_for_a_stale_base(self, cloud: Dav) -> None:
        stale = cloud.put("f", b"one", X_OC_Mtime=MTIME).headers["ETag"]
        cloud.put("f", b"two", X_OC_Mtime=MTIME)
        assert cloud.request("PUT", "f", content=b"mine", If_Match=stale).status_code == 204

    def test_the_parents_change_all_the_same(self, cloud: Dav) -> None:
        cloud.put("f", b"one", X_OC_Mtime=MTIME)
        before = etag(cloud)
        cloud.put("f", b"two", X_OC_Mtime=MTIME)
        assert etag(cloud) != before

    def test_getetag_can_be_set(self, cloud: Dav) -> None:
        cloud.put("f")
        cloud.proppatch("f", "<d:getetag>mine</d:getetag>")
        assert cloud.get("f", If_Match='"mine"').status_code == 200
        assert etag(cloud, "f") == '"mine"'


class TestMoveAndCopy:
    """§3.3."""

    KEPT = ("oc:fileid", "d:getetag", "d:getlastmodified", "oc:checksums", "nc:creation_time", "oc:favorite")

    def test_rename_keeps_everything(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("f", b"1", X_OC_Mtime=MTIME, X_OC_CTime="1500000000", OC_Checksum="SHA1:aa")
        cloud.proppatch("f", "<oc:favorite>1</oc:favorite>")
        before = cloud.stat("f", *self.KEPT).found
        reply = cloud.transfer("MOVE", "f", "d/g", Overwrite="F")
        assert reply.status_code == 201
        assert cloud.stat("d/g", *self.KEPT).found == before
        assert reply.headers["ETag"] == reply.headers["OC-ETag"] == before["d:getetag"]
        assert reply.headers["OC-FileId"].startswith(f"{int(before['oc:fileid']):08d}")

    def test_folder_rename_keeps_all_below(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.mkcol("d/e")
        cloud.put("d/e/f")
        before = {
            path: entry.found for path, entry in cloud.listing("d", *self.KEPT, depth="infinity").items()
        }
        reply = cloud.transfer("MOVE", "d", "moved", Overwrite="F")
        after = {
            path: entry.found for path, entry in cloud.listing("moved", *self.KEPT, depth="infinity").items()
        }
        assert after == {path.replace("d/", "moved/", 1): found for path, found in before.items()}
        assert "ETag" not in reply.headers
        assert "OC-FileId" in reply.headers

    def test_move_onto_a_file_kills_its_id(self, cloud: Dav) -> None:
        cloud.put("a", b"a")
        cloud.put("b", b"b")
        source, target = file_id(cloud, "a"), file_id(cloud, "b")
        assert cloud.transfer("MOVE", "a", "b", Overwrite="T").status_code == 204
        assert file_id(cloud, "b") == source != target

    def test_move_onto_a_full_folder_deletes_it(self, cloud: Dav) -> None:
        for name in ("a", "b"):
            cloud.mkcol(name)
        cloud.put("b/f")
        assert cloud.transfer("MOVE", "a", "b").status_code == 204
        assert set(cloud.listing()) == {"", "b/"}
        assert set(cloud.listing("b")) == {"b/"}

    def test_file_onto_folder_and_folder_onto_file(self, cloud: Dav) -> None:
        cloud.put("f", b"content")
        cloud.mkcol("d")
        assert cloud.transfer("MOVE", "f", "d").status_code == 204
        assert cloud.get("d").content == b"content"
        cloud.mkcol("e")
        assert cloud.transfer("MOVE", "e", "d").status_code == 204
        assert cloud.stat("d").is_folder

    def test_case_only_rename(self, cloud: Dav) -> None:
        cloud.put("name")
        assert cloud.transfer("MOVE", "name", "NAME", Overwrite="F").status_code == 201
        assert set(cloud.listing()) == {"", "NAME"}

    def test_copy_keeps_nothing(self, cloud: Dav) -> None:
        cloud.put("f", b"content", X_OC_Mtime=MTIME, X_OC_CTime="1500000000", OC_Checksum="SHA1:aa")
        assert cloud.transfer("COPY", "f", "g", Overwrite="F").status_code == 201
        copied = cloud.stat("g", *self.KEPT, "nc:upload_time").found
        assert copied["oc:fileid"] != file_id(cloud, "f")
        assert copied["d:getlastmodified"] != "Sun, 13 Sep 2020 12:26:40 GMT"
        assert "oc:checksums" not in copied
        assert copied["nc:creation_time"] == copied["nc:upload_time"] == "0"

    def test_copy_onto_a_file_gives_a_new_id(self, cloud: Dav) -> None:
        cloud.put("a", b"a")
        cloud.put("b", b"b")
        ids = {file_id(cloud, "a"), file_id(cloud, "b")}
        assert cloud.transfer("COPY", "a", "b", Overwrite="T").status_code == 204
        assert file_id(cloud, "b") not in ids

    def test_folder_copy_is_deep_whatever_the_depth(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f", b"content")
        assert cloud.transfer("COPY", "d", "e", Overwrite="F", Depth="0").status_code == 201
        assert cloud.get("e/f").content == b"content"

    def test_overwrite_keeps_the_id(self, cloud: Dav) -> None:
        first = cloud.put("f", b"one").headers["OC-FileId"]
        assert cloud.put("f", b"other").headers["OC-FileId"] == first


class TestTimes:
    def test_a_change_below_does_not_turn_a_folder_back(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f")
        before = cloud.stat("d").found["d:getlastmodified"]
        cloud.proppatch("d/f", f"<d:lastmodified>{MTIME}</d:lastmodified>")
        assert cloud.stat("d").found["d:getlastmodified"] == before

    def test_a_future_mtime_is_inherited_by_the_folders(self, cloud: Dav) -> None:
        cloud.mkcol("d")
        cloud.put("d/f", X_OC_Mtime="5000000000")
        for path in ("", "d"):
            assert cloud.stat(path).found["d:getlastmodified"] == "Fri, 11 Jun 2128 08:53:20 GMT"
