"""Edits by another client: what they do shows over HTTP as the same edit over HTTP would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.servers import Account, StandIn


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account("alice")


def etags(account: Account, *paths: str) -> list[str]:
    return [account.node(path).etag for path in paths]


def test_write_and_read(account: Account, client: httpx.Client) -> None:
    etag = account.write("/docs/a.txt", b"hello", mtime=1_600_000_000, checksum="SHA1:aa")
    reply = client.get("docs/a.txt")
    assert reply.content == account.read("/docs/a.txt") == b"hello"
    assert reply.headers["ETag"] == f'"{etag}"'
    assert reply.headers["Last-Modified"] == "Sun, 13 Sep 2020 12:26:40 GMT"
    assert reply.headers["OC-Checksum"] == "SHA1:aa"


def test_tree(account: Account, client: httpx.Client) -> None:
    account.populate({"d/e": None, "d/f": b"1"})
    client.put("g", content=b"2")
    assert account.tree() == {"d": None, "d/e": None, "d/f": b"1", "g": b"2"}
    assert account.tree("/d") == {"e": None, "f": b"1"}


def test_every_edit_changes_the_chain_of_etags(account: Account) -> None:
    account.write("/a/b/f", b"1", mtime=1_600_000_000)
    edits: list[Callable[[], object]] = [
        lambda: account.write("/a/b/f", b"22", mtime=1_600_000_001),
        lambda: account.touch("/a/b/f", 1_600_000_002),
        lambda: account.mkdir("/a/b/c"),
        lambda: account.copy("/a/b/f", "/a/b/g"),
        lambda: account.move("/a/b/f", "/a/b/h"),
        lambda: account.delete("/a/b/h"),
    ]
    for edit in edits:
        before = etags(account, "/", "/a", "/a/b")
        edit()
        assert not set(before) & set(etags(account, "/", "/a", "/a/b"))


def test_overwrite_in_the_same_second_keeps_the_etag(account: Account) -> None:
    first = account.write("/f", b"1", mtime=1_600_000_000)
    assert account.write("/f", b"2", mtime=1_600_000_000) == first
    assert account.write("/f", b"2", mtime=1_600_000_001) != first


def test_move_keeps_the_id_and_replaces(account: Account) -> None:
    account.write("/a", b"a")
    account.write("/b", b"b")
    moved, replaced = account.node("/a").file_id, account.node("/b").file_id
    account.move("/a", "/b")
    assert account.node("/b").file_id == moved != replaced
    assert account.tree() == {"b": b"a"}


def test_sizes_add_up(account: Account) -> None:
    account.populate({"d/f": b"12345", "d/e/g": b"123"})
    assert account.node("/d").size_bytes == 8
    account.delete("/d/e")
    account.write("/d/f", b"1")
    assert account.node("/").size_bytes == 1


def test_missing_paths_are_errors(account: Account) -> None:
    with pytest.raises(FileNotFoundError):
        account.read("/nope")
    with pytest.raises(NotADirectoryError):
        account.write("/no/f", b"1", parents=False)


def test_adopted_files_are_never_written(account: Account, client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f.txt").write_bytes(b"mine")
    account.adopt(tmp_path)
    assert client.get("d/f.txt").content == b"mine"
    client.put("d/f.txt", content=b"new").raise_for_status()
    assert client.get("d/f.txt").content == b"new"
    client.delete("d").raise_for_status()
    assert (tmp_path / "d" / "f.txt").read_bytes() == b"mine"


class TestReadOnlyShare:
    """Letters of protocol.md §2.2; refusals as in §13."""

    @pytest.fixture
    def ro(self, account: Account) -> str:
        account.populate({"ro/f": b"1", "ro/sub": None, "own": b"1"})
        account.set_permissions("/ro", "SG")
        return "ro"

    def propfind(self, client: httpx.Client, path: str, name: str) -> str:
        namespace = "http://owncloud.org/ns" if name == "permissions" else "http://nextcloud.org/ns"
        body = f'<d:propfind xmlns:d="DAV:"><d:prop><p:{name} xmlns:p="{namespace}"/></d:prop></d:propfind>'
        reply = client.request("PROPFIND", path, headers={"Depth": "0"}, content=body).text
        return reply.partition(f"{name}>")[2].partition("<")[0]

    def test_letters(self, ro: str, account: Account, client: httpx.Client) -> None:
        assert [self.propfind(client, path, "permissions") for path in (ro, "ro/f", "own")] == [
            "SG",
            "SG",
            "RGDNVW",
        ]
        assert [self.propfind(client, path, "mount-type") for path in (ro, "own")] == ["shared", ""]
        assert [self.propfind(client, path, "is-mount-root") for path in (ro, "ro/f")] == ["true", "false"]
        account.set_permissions("/ro", "SRGDNVWCK")
        assert [self.propfind(client, path, "permissions") for path in (ro, "ro/f")] == [
            "SRGDNVCK",
            "SRGDNVW",
        ]

    @pytest.mark.parametrize(
        ("method", "path", "to"),
        [
            ("PUT", "ro/f", ""),
            ("PUT", "ro/new", ""),
            ("MKCOL", "ro/new", ""),
            ("DELETE", "ro/f", ""),
            ("MOVE", "ro/f", "moved"),
            ("MOVE", "own", "ro/own"),
            ("COPY", "own", "ro/own"),
            ("MOVE", "own", "ro/f"),
        ],
    )
    def test_changes_are_403(
        self,
        ro: str,
        server: StandIn,
        client: httpx.Client,
        account: Account,
        method: str,
        path: str,
        to: str,
    ) -> None:
        assert ro
        before = account.tree()
        headers = {"Destination": server.dav_url("alice") + to} if to else {}
        content = b"2" if method == "PUT" else None
        assert client.request(method, path, headers=headers, content=content).status_code == 403
        assert account.tree() == before

    def test_upload_and_bulk_are_refused(self, ro: str, server: StandIn, client: httpx.Client) -> None:
        upload = f"{server.url}/remote.php/dav/uploads/alice/u"
        client.request("MKCOL", upload).raise_for_status()
        client.put(f"{upload}/1", content=b"x").raise_for_status()
        headers = {"Destination": f"{server.dav_url('alice')}{ro}/f"}
        assert client.request("MOVE", f"{upload}/.file", headers=headers).status_code == 403

    def test_reading_and_times_are_not(self, ro: str, client: httpx.Client) -> None:
        assert client.get(f"{ro}/f").content == b"1"
        body = (
            '<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop><d:lastmodified>1600000000</d:lastmodified>'
            "</d:prop></d:set></d:propertyupdate>"
        )
        assert " 200 OK" in client.request("PROPPATCH", f"{ro}/f", content=body).text

    def test_only_the_roots_etag_changes_with_them(self, ro: str, account: Account) -> None:
        before = etags(account, "/", ro, "ro/f")
        account.set_permissions(ro, None)
        after = etags(account, "/", ro, "ro/f")
        assert before[0] != after[0]
        assert before[1:] == after[1:]


class TestQuota:
    def test_full_new_size_counts_also_over_an_old_file(self, account: Account, client: httpx.Client) -> None:
        account.set_quota(1000)
        assert client.put("f", content=b"x" * 600).status_code == 201
        reply = client.put("f", content=b"x" * 700)
        assert reply.status_code == 507
        assert "Insufficient space in /f, 700 required, 400 available" in reply.text
        assert account.read("/f") == b"x" * 600
        account.set_quota(None)
        assert client.put("f", content=b"x" * 700).status_code == 204

    def test_copy(self, server: StandIn, account: Account, client: httpx.Client) -> None:
        account.write("/f", b"x" * 600)
        account.set_quota(1000)
        reply = client.request("COPY", "f", headers={"Destination": server.dav_url("alice") + "g"})
        assert "Insufficient space in /, 600 required, 400 available" in reply.text

    def test_shows_in_ocs_and_properties(
        self, server: StandIn, account: Account, client: httpx.Client
    ) -> None:
        account.write("/f", b"x" * 600)
        account.set_quota(1000)
        url = f"{server.url}/ocs/v2.php/cloud/user?format=json"
        quota = client.get(url, headers={"OCS-APIRequest": "true"}).json()["ocs"]["data"]["quota"]
        assert quota == {"free": 400, "used": 600, "total": 1000, "relative": 60.0, "quota": 1000}
        listing = client.request("PROPFIND", "", headers={"Depth": "0"}).text
        assert "<d:quota-available-bytes>400<" in listing


class TestCredentials:
    def test_revoked_app_password_is_401_also_with_its_cookies(
        self, server: StandIn, account: Account
    ) -> None:
        password = account.app_password()
        with httpx.Client(base_url=server.dav_url("alice"), auth=("alice", password)) as client:
            assert client.request("PROPFIND", "").status_code == 207
            account.revoke(password)
            assert client.request("PROPFIND", "").status_code == 401

    def test_login_password_makes_an_app_password_that_can_end_itself(self, server: StandIn) -> None:
        headers = {"OCS-APIRequest": "true"}
        base = f"{server.url}/ocs/v2.php/core"
        reply = httpx.get(
            f"{base}/getapppassword?format=json",
            auth=("alice", server.account("alice").password),
            headers=headers,
        )
        auth = ("alice", reply.json()["ocs"]["data"]["apppassword"])
        assert len(auth[1]) == 72
        assert httpx.delete(f"{base}/apppassword", auth=auth, headers=headers).status_code == 200
        assert httpx.request("PROPFIND", server.dav_url("alice"), auth=auth).status_code == 401

    def test_two_factor_refuses_the_login_password_only(self, server: StandIn, account: Account) -> None:
        account.set_two_factor()
        login = httpx.request("PROPFIND", server.dav_url("alice"), auth=("alice", account.password))
        assert login.status_code == 401
        assert "PasswordLoginForbidden" in login.text
        assert "WWW-Authenticate" not in login.headers
        app = httpx.request("PROPFIND", server.dav_url("alice"), auth=("alice", account.app_password()))
        assert app.status_code == 207

    def test_bulk_logs_the_session_out(self, server: StandIn, client: httpx.Client) -> None:
        client.request("PROPFIND", "").raise_for_status()
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        headers = {"Content-Type": "multipart/related; boundary=B"}
        url = f"{server.url}/remote.php/dav/bulk"
        assert client.post(url, content=b"--B--\r\n", headers=headers).status_code == 200
        stale = httpx.request("PROPFIND", server.dav_url("alice"), headers={"Cookie": cookies})
        assert stale.status_code == 401


def test_accounts_are_apart(server: StandIn, account: Account) -> None:
    account.write("/f", b"1")
    carol = server.add_account("carol", "carol-Pass-123")
    assert carol.tree() == server.account("bob").tree() == {}
    carol.write("/g", b"2")
    assert carol.node("/g").file_id != account.node("/f").file_id


def test_maintenance(server: StandIn, client: httpx.Client) -> None:
    server.maintenance = True
    reply = client.request("PROPFIND", "")
    assert reply.status_code == 503
    assert "ServerMaintenanceMode" in reply.text
    assert "Retry-After" not in reply.headers
    assert client.get(f"{server.url}/status.php").json()["maintenance"] is True
    ocs = client.get(f"{server.url}/ocs/v2.php/cloud/user", headers={"OCS-APIRequest": "true"})
    assert (ocs.status_code, ocs.headers["X-Nextcloud-Maintenance-Mode"]) == (503, "1")
    server.maintenance = False
    assert client.request("PROPFIND", "").status_code == 207
