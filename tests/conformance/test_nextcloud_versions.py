"""Old contents of files, by file id (protocol.md §10)."""

from __future__ import annotations

import httpx
import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav

OLD, NEWER = b"o" * 3000, b"newer" * 100
OLD_S, NEWER_S = 1_700_000_000, 1_700_000_100


@pytest.fixture
def versions(cloud: Dav, nextcloud: Target) -> Dav:
    """The versions of a file that was overwritten once."""
    cloud.put("file.bin", OLD, X_OC_Mtime=str(OLD_S))
    cloud.put("file.bin", NEWER, X_OC_Mtime=str(NEWER_S))
    return of(cloud, nextcloud, cloud.stat("file.bin", "oc:fileid").found["oc:fileid"])


def of(cloud: Dav, nextcloud: Target, file_id: str) -> Dav:
    user = httpx.URL(cloud.folder_url).path.removeprefix("/remote.php/dav/files/").partition("/")[0]
    return Dav(cloud.client, f"{nextcloud.site_url}/remote.php/dav/versions/{user}/versions/{file_id}/")


def test_what_was_overwritten_and_what_is_there_now_are_listed_by_their_times(versions: Dav) -> None:
    listed = versions.listing("", "d:getlastmodified", "d:getcontentlength", "d:resourcetype", "oc:checksums")
    assert listed.keys() == {"", str(OLD_S), str(NEWER_S)}
    assert listed[""].is_folder
    assert listed[str(OLD_S)].found == {
        "d:getlastmodified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "d:getcontentlength": str(len(OLD)),
        "d:resourcetype": "",
    }
    assert listed[str(NEWER_S)].found["d:getcontentlength"] == str(len(NEWER))


def test_only_what_was_overwritten_can_be_read(versions: Dav) -> None:
    whole = versions.get(str(OLD_S))
    assert (whole.status_code, whole.content) == (200, OLD)
    assert whole.headers["Content-Length"] == str(len(OLD))
    part = versions.get(str(OLD_S), Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, OLD[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(OLD)}"
    assert part.headers["ETag"] == str(OLD_S)
    assert versions.get(str(NEWER_S)).status_code == 404
    assert versions.get(str(OLD_S + 1)).status_code == 404


def test_versions_stay_with_a_file_that_is_moved(versions: Dav, cloud: Dav) -> None:
    assert cloud.transfer("MOVE", "file.bin", "moved.bin").status_code == 201
    assert versions.get(str(OLD_S)).content == OLD


def test_an_id_that_never_was_has_no_versions(cloud: Dav, nextcloud: Target) -> None:
    assert of(cloud, nextcloud, "987654321").propfind(depth="1").status_code == 404


def test_of_two_contents_of_one_second_the_last_is_kept(cloud: Dav, nextcloud: Target) -> None:
    """As long as the later one is there, it is the earlier that comes, of the same name as what is there now."""
    for text in (OLD, OLD[::-1] + b"x", NEWER):
        cloud.put("file.bin", text, X_OC_Mtime=str(NEWER_S if text is NEWER else OLD_S))
    versions = of(cloud, nextcloud, cloud.stat("file.bin", "oc:fileid").found["oc:fileid"])
    assert versions.get(str(OLD_S)).content == OLD[::-1] + b"x"
    assert versions.listing("", "d:getcontentlength").keys() == {"", str(OLD_S), str(NEWER_S)}


def test_what_has_the_time_of_what_it_replaced_hides_it_not(cloud: Dav, nextcloud: Target) -> None:
    for text in (OLD, OLD[:-1] + b"x"):
        cloud.put("file.bin", text, X_OC_Mtime=str(OLD_S))
    versions = of(cloud, nextcloud, cloud.stat("file.bin", "oc:fileid").found["oc:fileid"])
    assert versions.listing("", "d:getcontentlength").keys() == {"", str(OLD_S)}
    assert versions.get(str(OLD_S)).content == OLD


def trash_of(cloud: Dav, nextcloud: Target) -> Dav:
    user = httpx.URL(cloud.folder_url).path.removeprefix("/remote.php/dav/files/").partition("/")[0]
    return Dav(cloud.client, f"{nextcloud.site_url}/remote.php/dav/trashbin/{user}/trash/")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_was_removed_or_replaced_by_a_move_keeps_its_id_in_the_trash(
    cloud: Dav, nextcloud: Target, how: str
) -> None:
    trash = trash_of(cloud, nextcloud)
    cloud.put("file.bin", OLD, X_OC_Mtime=str(OLD_S), OC_Checksum="SHA1:" + "0" * 40)
    file_id = cloud.stat("file.bin", "oc:fileid").found["oc:fileid"]
    if how == "removed":
        cloud.request("DELETE", "file.bin")
    else:
        cloud.put("other.bin", NEWER)
        assert cloud.transfer("MOVE", "other.bin", "file.bin").status_code == 204
    listed = trash.listing("", "oc:fileid", "d:getcontentlength", "d:getlastmodified", "oc:checksums")
    (name,) = [name for name, it in listed.items() if it.found.get("oc:fileid") == file_id]
    assert listed[name].found["d:getcontentlength"] == str(len(OLD))
    assert "2023" not in listed[name].found["d:getlastmodified"]
    assert "oc:checksums" not in listed[name].found
    whole = trash.get(name)
    assert whole.content == OLD
    assert whole.headers["ETag"] == name.rpartition(".d")[2]
    assert of(cloud, nextcloud, file_id).propfind(depth="1").status_code == 404


def test_a_file_that_was_removed_with_its_folder_keeps_its_id_below_it(cloud: Dav, nextcloud: Target) -> None:
    trash = trash_of(cloud, nextcloud)
    cloud.mkcol("gone")
    cloud.mkcol("gone/inner")
    cloud.put("gone/inner/file.bin", OLD, X_OC_Mtime=str(OLD_S))
    ids = [cloud.stat(path, "oc:fileid").found["oc:fileid"] for path in ("gone", "gone/inner/file.bin")]
    cloud.request("DELETE", "gone")
    listed = trash.listing("", "d:resourcetype", "oc:fileid", "nc:trashbin-filename")
    (name,) = [name.rstrip("/") for name, it in listed.items() if it.found.get("oc:fileid") == ids[0]]
    assert listed[f"{name}/"].is_folder
    assert listed[f"{name}/"].found["nc:trashbin-filename"] == "gone"
    assert trash.listing(name, "nc:trashbin-filename").keys() == {f"{name}/", f"{name}/inner/"}
    below = trash.listing(f"{name}/inner", "oc:fileid", "d:getcontentlength", "nc:trashbin-original-location")
    (file,) = [it for it in below.values() if it.found.get("oc:fileid") == ids[1]]
    assert file.found["d:getcontentlength"] == str(len(OLD))
    assert file.found["nc:trashbin-original-location"].endswith("gone/inner/file.bin")
    assert trash.get(f"{name}/inner/file.bin").content == OLD
