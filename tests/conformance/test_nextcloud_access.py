"""protocol.md §1 (discovery), §11 (authentication) and §13 (error bodies)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import Target
from tests.conformance.dav import Dav, exception_of, message_of, once

OCS = {"OCS-APIRequest": "true"}


@pytest.fixture
def client(nextcloud: Target) -> Iterator[httpx.Client]:
    with nextcloud.client() as client:
        yield client


def ocs_data(reply: httpx.Response) -> Any:
    return reply.json()["ocs"]["data"]


class TestDiscovery:
    def test_status_needs_no_login(self, nextcloud: Target) -> None:
        status = once("GET", f"{nextcloud.site_url}/status.php").json()
        assert status["installed"] is True
        assert status["maintenance"] is False
        assert status["productname"] == "Nextcloud"

    def test_capabilities(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/cloud/capabilities?format=json", headers=OCS)
        capabilities = ocs_data(reply)["capabilities"]
        assert capabilities["dav"] == {"chunking": "1.0", "bulkupload": "1.0"}
        assert capabilities["core"]["webdav-root"] == "remote.php/webdav"
        assert capabilities["files"]["blacklisted_files"] == [".htaccess"]
        assert "checksums" not in capabilities
        assert set(capabilities.get("notify_push", {})) <= {"type", "endpoints"}  # where the app is there

    def test_anonymous_capabilities_are_few(self, nextcloud: Target) -> None:
        reply = once("GET", f"{nextcloud.site_url}/ocs/v2.php/cloud/capabilities?format=json", headers=OCS)
        assert set(ocs_data(reply)["capabilities"]) == {"bruteforce", "theming"}

    def test_ocs_without_its_header_is_412(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/cloud/user?format=json")
        assert (reply.status_code, reply.json()) == (412, {"message": "CSRF check failed"})

    def test_ocs_is_xml_by_default(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/cloud/user", headers=OCS)
        assert reply.headers["Content-Type"].startswith("application/xml")

    def test_user_has_an_id_and_a_quota(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/cloud/user?format=json", headers=OCS)
        user = ocs_data(reply)
        assert user["id"] in nextcloud.root_url
        assert user["quota"]["quota"] == -3
        assert user["quota"]["free"] > 0

    def test_unknown_ocs_call_is_404(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/cloud/nothing?format=json", headers=OCS)
        assert reply.status_code == 404
        assert reply.json()["ocs"]["meta"]["statuscode"] == 404

    def test_legacy_root_is_the_same_tree(self, nextcloud: Target, cloud: Dav) -> None:
        cloud.put("f", b"1")
        user_root = nextcloud.root_url.partition("/remote.php/dav/files/")[2].partition("/")[0]
        legacy = cloud.folder_url.replace(f"/dav/files/{user_root}/", "/webdav/")
        assert Dav(cloud.client, legacy).stat("f", "oc:fileid").found == cloud.stat("f", "oc:fileid").found

    def test_user_id_matches_in_any_case(self, nextcloud: Target, client: httpx.Client) -> None:
        root = f"{nextcloud.site_url}/remote.php/dav/files/"
        user = nextcloud.root_url.removeprefix(root).partition("/")[0]
        shouted = client.request("PROPFIND", f"{root}{user.upper()}/", headers={"Depth": "0"})
        assert shouted.status_code == 207
        assert f"/files/{user.upper()}/" in shouted.text

    def test_unknown_user_is_404(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.request("PROPFIND", f"{nextcloud.site_url}/remote.php/dav/files/nobody-here/")
        assert reply.status_code == 404
        assert message_of(reply) == "Principal with name nobody-here not found"

    @pytest.mark.parametrize("path", ["", "files/"])
    def test_roots_tell_who_is_logged_in(self, nextcloud: Target, client: httpx.Client, path: str) -> None:
        root = Dav(client, f"{nextcloud.site_url}/remote.php/dav/{path}")
        entry = root.stat("", "d:resourcetype", "d:current-user-principal", "d:getetag")
        assert entry.statuses["d:getetag"] == 404
        user = nextcloud.root_url.partition("/dav/files/")[2].partition("/")[0]
        assert entry.found == {
            "d:resourcetype": "d:collection",
            "d:current-user-principal": f"d:href=/remote.php/dav/principals/users/{user}/",
        }

    def test_search_shows_at_the_root_only(self, nextcloud: Target, cloud: Dav) -> None:
        root = Dav(cloud.client, f"{nextcloud.site_url}/remote.php/dav/")
        assert "SEARCH" in root.request("OPTIONS").headers["Allow"]
        assert root.request("OPTIONS").headers["DASL"] == "<DAV:basicsearch>"
        assert "SEARCH" not in cloud.request("OPTIONS").headers["Allow"]
        assert root.request("PROPFIND", "nothing").status_code == 404

    def test_options_works_for_missing_paths(self, cloud: Dav) -> None:
        reply = cloud.request("OPTIONS", "nope")
        assert reply.status_code == 200
        assert "MKCOL" in reply.headers["Allow"]
        assert "2" not in [part.strip() for part in reply.headers["DAV"].split(",")]


class TestAuthentication:
    def test_401_without_credentials(self, nextcloud: Target) -> None:
        reply = once("PROPFIND", nextcloud.root_url)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="Nextcloud", charset="UTF-8"'
        assert exception_of(reply) == "Sabre\\DAV\\Exception\\NotAuthenticated"

    def test_401_with_a_wrong_password(self, nextcloud: Target) -> None:
        reply = once("PROPFIND", nextcloud.root_url, auth=(nextcloud.user, "wrong"))
        assert reply.status_code == 401
        assert "Username or password was incorrect" in message_of(reply)

    def test_ocs_without_credentials_is_401_997(self, nextcloud: Target) -> None:
        reply = once("GET", f"{nextcloud.site_url}/ocs/v2.php/cloud/user?format=json", headers=OCS)
        assert reply.status_code == 401
        assert reply.json()["ocs"]["meta"] == {
            "status": "failure",
            "statuscode": 997,
            "message": "Current user is not logged in",
        }

    def test_ocs_with_a_wrong_password_is_401_in_xml(self, nextcloud: Target) -> None:
        auth = (nextcloud.user, "wrong")
        url = f"{nextcloud.site_url}/ocs/v2.php/cloud/user?format=json"
        reply = once("GET", url, headers=OCS, auth=auth)
        assert reply.status_code == 401
        assert "<statuscode>997</statuscode>" in reply.text

    def test_app_password_as_bearer(self, nextcloud: Target) -> None:
        headers = {"Authorization": f"Bearer {nextcloud.password}", "Depth": "0"}
        assert once("PROPFIND", nextcloud.root_url, headers=headers).status_code == 207

    def test_app_password_is_bound_to_its_login_name(self, nextcloud: Target) -> None:
        auth = (nextcloud.user.upper(), nextcloud.password)
        assert once("PROPFIND", nextcloud.root_url, auth=auth).status_code == 401

    def test_a_stranger_is_told_of_fewer_abilities(self, nextcloud: Target) -> None:
        """So these are never asked for by a session alone: nothing would tell that it has ended."""
        reply = once("GET", f"{nextcloud.site_url}/ocs/v2.php/cloud/capabilities?format=json", headers=OCS)
        assert reply.status_code == 200
        assert "dav" not in reply.json()["ocs"]["data"]["capabilities"]

    def test_no_app_password_from_an_app_password(self, nextcloud: Target, client: httpx.Client) -> None:
        reply = client.get(f"{nextcloud.site_url}/ocs/v2.php/core/getapppassword?format=json", headers=OCS)
        assert reply.status_code == 403


class TestErrorBodies:
    @pytest.mark.parametrize(
        ("method", "path", "status", "exception"),
        [
            ("GET", "nope", 404, "NotFound"),
            ("DELETE", "nope", 404, "NotFound"),
            ("PROPFIND", "nope", 404, "NotFound"),
            ("MKCOL", "", 405, "MethodNotAllowed"),
            ("MKCOL", "no/d", 409, "Conflict"),
            ("PUT", "", 409, "Conflict"),
            ("LOCK", "", 501, "NotImplemented"),
            ("UNLOCK", "", 501, "NotImplemented"),
            ("MOVE", "", 400, "BadRequest"),
        ],
    )
    def test_class(self, cloud: Dav, method: str, path: str, status: int, exception: str) -> None:
        reply = cloud.request(method, path)
        assert reply.status_code == status
        assert exception_of(reply) == f"Sabre\\DAV\\Exception\\{exception}"

    def test_404_names_the_first_missing_part(self, cloud: Dav) -> None:
        assert message_of(cloud.get("no/such/file")).endswith("/no could not be located")
