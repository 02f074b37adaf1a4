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


def test_a_file_that_was_removed_or_replaced_by_a_move_keeps_its_id_in_the_trash(
    cloud: Dav, nextcloud: Target
) -> None:
    if nextcloud.name == "standin":
        pytest.skip("it has no trash")
    user = httpx.URL(cloud.folder_url).path.removeprefix("/remote.php/dav/files/").partition("/")[0]
    trash = Dav(cloud.client, f"{nextcloud.site_url}/remote.php/dav/trashbin/{user}/trash/")
    for how in ("removed", "replaced"):
        cloud.put("file.bin", OLD)
        file_id = cloud.stat("file.bin", "oc:fileid").found["oc:fileid"]
        if how == "removed":
            cloud.request("DELETE", "file.bin")
        else:
            cloud.put("other.bin", NEWER)
            assert cloud.transfer("MOVE", "other.bin", "file.bin").status_code == 204
        listed = trash.listing("", "oc:fileid", "d:getcontentlength")
        (name,) = [name for name, it in listed.items() if it.found.get("oc:fileid") == file_id]
        assert listed[name].found["d:getcontentlength"] == str(len(OLD))
        assert trash.get(name).content == OLD
        assert of(cloud, nextcloud, file_id).propfind(depth="1").status_code == 404
