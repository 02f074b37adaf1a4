"""Logging in to servers that are well, wrong, or none at all; then the whole product once, end to end."""

from __future__ import annotations

import base64
import ctypes
import http.server
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.cli.addresses import name_of_host
from cloudfs.config import Folders
from cloudfs.control.instance import find_holder
from cloudfs.errors import ExitCode
from cloudfs.remote.tls import key_digest
from tests.cli.conftest import Result, Run, wait_for_end
from tests.servers.standin.faults import Answer
from tests.servers.standin.server import StandIn

PASSWORD = "login-Pass-123"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn({"jo": PASSWORD}) as server:
        yield server


def log_in(run: Run, url: str, *options: object, user: str = "jo", password: str = PASSWORD) -> Result:
    return run("login", url, "--user", user, "--password-stdin", *options, stdin=password + "\n")


def nothing_is_written(tmp_path: Path) -> bool:
    return not (tmp_path / "home").exists()


def test_the_password_is_exchanged_and_never_kept(run: Run, server: StandIn, tmp_path: Path) -> None:
    result = log_in(run, server.url, "--account", "work")
    assert result.code == ExitCode.OK, result.err
    assert "Mount it with `cloudfs mount work FOLDER`." in result.out
    folders = Folders.from_environment()
    account = config.load_account(folders, "work")
    assert (account.url, account.user, account.user_id) == (server.dav_url("jo"), "jo", "jo")
    assert account.features["nextcloud"] is True
    secret = config.read_secret(folders, "work")
    assert secret != PASSWORD
    assert len(server.site.users.get("jo").app_passwords) == 1  # type: ignore[union-attr]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
    assert kept.count(secret.encode()) == 1


def test_a_command_that_has_a_password_leaves_no_core_file_and_is_closed_to_debuggers(
    run: Run, server: StandIn
) -> None:
    set_dumpable, get_dumpable, prctl = 4, 3, ctypes.CDLL(None).prctl
    before = prctl(get_dumpable)
    try:
        for words, stdin in (
            (("login", server.url, "--user", "jo", "--account", "work", "--password-stdin"), PASSWORD),
            (("doctor", "--offline"), ""),
            (("logout", "work"), ""),
        ):
            prctl(set_dumpable, 1)
            run(*words, stdin=stdin)
            assert prctl(get_dumpable) == 0, words
            assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    finally:
        prctl(set_dumpable, before)


def test_logging_in_again_keeps_the_settings(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    folders = Folders.from_environment()
    path = folders.account_file("work")
    path.write_text(path.read_text().replace("[settings]", "[settings]\nquiet_s = 7.0"))
    first = config.read_secret(folders, "work")
    assert log_in(run, server.url, "--account", "work").code == ExitCode.OK
    assert config.load_account(folders, "work").settings.quiet_s == 7.0
    assert config.read_secret(folders, "work") != first


def app_passwords(server: StandIn) -> dict[str, str]:
    found = server.site.users.get("jo")
    assert found is not None
    return found.app_passwords


def work_secret() -> str:
    return config.read_secret(Folders.from_environment(), "work")


def test_logging_in_again_needs_no_address(run: Run, server: StandIn) -> None:
    """The hints say `cloudfs login --account NAME`, which can be typed as it is."""
    assert run("login").code == ExitCode.NO_ACCOUNT
    log_in(run, server.url, "--account", "work")
    before = config.load_account(Folders.from_environment(), "work")
    for words in (("--account", "work"), ()):
        result = run("login", *words, "--password-stdin", stdin=f"{PASSWORD}\n")
        assert (result.code, result.err) == (ExitCode.OK, "")
        assert config.load_account(Folders.from_environment(), "work") == before


def test_a_new_login_revokes_the_app_password_that_it_replaces(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    log_in(run, server.url, "--account", "other")
    first = work_secret()
    result = log_in(run, server.url, "--account", "work")
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert first not in app_passwords(server)
    assert set(app_passwords(server)) == {
        work_secret(),
        config.read_secret(Folders.from_environment(), "other"),
    }


def test_an_app_password_that_was_brought_along_is_left_alone(run: Run, server: StandIn) -> None:
    """Its owner may use it elsewhere; and one that is brought again is the one in use."""
    brought = server.account("jo").app_password()
    for password in (brought, brought, PASSWORD):
        assert log_in(run, server.url, "--account", "work", password=password).code == ExitCode.OK
    assert set(app_passwords(server)) == {brought, work_secret()}


def test_one_of_ours_that_is_brought_again_is_the_one_in_use(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    secret = work_secret()
    assert log_in(run, server.url, "--account", "work", password=secret).code == ExitCode.OK
    assert set(app_passwords(server)) == {secret} == {work_secret()}


@pytest.mark.parametrize("says", ["Password confirmation is required", ""])
def test_a_login_password_that_is_not_exchanged_is_not_kept(
    run: Run, server: StandIn, tmp_path: Path, says: str
) -> None:
    """403 is the answer to an app password; but it may mean something else."""
    told = json.dumps(
        {"ocs": {"meta": {"status": "failure", "statuscode": 403, "message": says}, "data": []}}
    )
    answer = Answer(403, told.encode(), {"Content-Type": "application/json"})
    server.faults.add(answer, path="getapppassword", times=None)
    result = log_in(run, server.url)
    assert (result.code, len(result.said)) == (ExitCode.NOT_DONE, 2), result.err
    assert "a login password is not kept" in result.said[0]
    assert says in result.said[0]
    assert nothing_is_written(tmp_path)
    brought = server.account("jo").app_password()
    assert log_in(run, server.url, password=brought).code == ExitCode.OK


def test_a_former_app_password_that_cannot_be_revoked_is_told_of(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    first = work_secret()
    server.faults.add(Answer(500), method="DELETE", times=None)
    result = log_in(run, server.url, "--account", "work")
    assert (result.code, len(result.said)) == (ExitCode.OK, 1)
    assert result.said[0].startswith("The former app password could not be revoked: ")
    assert f"{server.url}/index.php/settings/user/security" in result.said[0]
    assert set(app_passwords(server)) == {first, work_secret()}


def test_a_former_app_password_that_is_lost_or_withdrawn_is_no_obstacle(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    server.account("jo").revoke(work_secret())
    result = log_in(run, server.url, "--account", "work")
    assert (result.code, result.err) == (ExitCode.OK, "")
    Folders.from_environment().secret_file("work").unlink()
    result = log_in(run, server.url, "--account", "work")
    assert (result.code, len(result.said)) == (ExitCode.OK, 1)


def test_a_name_never_changes_to_other_files(run: Run, server: StandIn) -> None:
    log_in(run, server.url, "--account", "work")
    server.add_account("eve", PASSWORD)
    result = log_in(run, server.url, "--account", "work", user="eve")
    assert result.code == ExitCode.USAGE
    assert result.said[0].startswith("The account work already is jo at ")
    assert not server.site.users.get("eve").app_passwords  # type: ignore[union-attr]


def test_a_login_that_cannot_be_kept_is_taken_back(
    run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise config._bad("The disk is full.", "Make room.")

    monkeypatch.setattr(config, "save_account", full)
    assert log_in(run, server.url).code == ExitCode.BAD_CONFIG
    assert not server.site.users.get("jo").app_passwords  # type: ignore[union-attr]


# --- bad input


def test_a_wrong_password(run: Run, server: StandIn, tmp_path: Path) -> None:
    result = log_in(run, server.url, password="wrong")
    assert (result.code, len(result.said)) == (ExitCode.WRONG_PASSWORD, 2)
    assert nothing_is_written(tmp_path)


def test_a_server_that_is_not_there(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "https://does-not-exist.invalid"):
        result = log_in(run, url)
        assert (result.code, len(result.said)) == (ExitCode.UNREACHABLE, 2), result.err
        assert url in result.said[0]
    assert nothing_is_written(tmp_path)


def test_a_certificate_that_nobody_knows(run: Run, tmp_path: Path) -> None:
    with StandIn({"jo": PASSWORD}, tls=True) as server:
        result = log_in(run, server.url)
        assert (result.code, len(result.said)) == (ExitCode.UNTRUSTED_CERTIFICATE, 2), result.err
        assert "--ca-file" in result.said[1]
        assert nothing_is_written(tmp_path)
        assert server.certificate
        ca_file = Path(server.certificate.certificate)
        assert log_in(run, server.url, "--ca-file", ca_file, "--account", "work").code == ExitCode.OK
    assert config.load_account(Folders.from_environment(), "work").ca_file == str(ca_file)


def test_whom_an_account_trusts_is_kept_for_its_next_login(run: Run) -> None:
    with StandIn({"jo": PASSWORD}, tls=True) as server:
        assert server.certificate is not None
        ca_file = server.certificate.certificate
        pin = (
            "sha256//" + base64.b64encode(key_digest(ssl.PEM_cert_to_DER_cert(ca_file.read_text()))).decode()
        )
        first = ("--ca-file", ca_file, "--pinned-key", pin, "--account", "work")
        assert log_in(run, server.url, *first).code == ExitCode.OK
        assert log_in(run, server.url, "--account", "work").code == ExitCode.OK
        known = config.load_account(Folders.from_environment(), "work")
        assert (known.ca_file, known.pinned_keys) == (str(ca_file), [pin])
        other = "sha256//" + base64.b64encode(bytes(32)).decode()
        refused = log_in(run, server.url, "--pinned-key", other, "--account", "work")
        assert refused.code == ExitCode.UNTRUSTED_CERTIFICATE
    assert config.load_account(Folders.from_environment(), "work") == known


@pytest.mark.parametrize("status", [200, 400, 404, 405])
def test_a_page_that_is_no_webdav(run: Run, tmp_path: Path, status: int) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "14")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"<html>x</html>")

        do_GET = do_HEAD = do_PROPFIND = do_OPTIONS = answer  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        result = log_in(run, f"http://127.0.0.1:{page.server_port}")
        page.shutdown()
        thread.join()
    assert (result.code, len(result.said)) == (ExitCode.NOT_WEBDAV, 2), result.err
    assert "Traceback" not in result.err
    assert nothing_is_written(tmp_path)


def test_a_server_in_maintenance(run: Run, server: StandIn, tmp_path: Path) -> None:
    server.maintenance = True
    result = log_in(run, server.url)
    assert (result.code, len(result.said)) == (ExitCode.UNREACHABLE, 2), result.err
    assert nothing_is_written(tmp_path)


# --- what is sent in the open


def serving(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an address of the server that is not this machine's own by its looks."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: look_up(_here(host), *more, **named)
    )
    return server.url.replace("127.0.0.1", "cloud.example.org")


def _here(host: str | bytes | None) -> str | bytes | None:
    return "127.0.0.1" if host in {"cloud.example.org", b"cloud.example.org"} else host


@pytest.mark.parametrize("scheme", ["http", "HTTP", "dav"])
def test_no_password_is_sent_over_plain_http(
    run: Run, server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    url = serving(server, monkeypatch).replace("http", scheme)
    result = log_in(run, url)
    assert (result.code, len(result.said)) == (ExitCode.USAGE, 2), result.err
    assert "--allow-http" in result.said[1]
    assert list(server.requests) == []
    assert nothing_is_written(tmp_path)


def test_plain_http_is_warned_of_before_anything_is_sent(
    run: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = log_in(run, serving(server, monkeypatch), "--allow-http", password="wrong")
    assert result.code == ExitCode.WRONG_PASSWORD, result.err
    assert result.said[0].startswith("Warning: ")
    assert log_in(run, server.url).err == "", "this machine's own address needs no warning"


# --- the whole way


@pytest.mark.mount
def test_from_login_to_unmount_with_the_real_engine(run: Run, server: StandIn, tmp_path: Path) -> None:
    place = tmp_path / "cloud"
    place.mkdir()
    log_in(run, server.url, "--account", "work")
    try:
        result = run("mount", place)
        assert result.code == ExitCode.OK, result.err
        (place / "new.txt").write_bytes(b"new")
        answer = json.loads(run("status", "--json").out)
        assert (answer["pending"], answer["state"]) == (1, "online")
        assert run("sync", "--wait", place, "--timeout", "30").code == ExitCode.OK
        assert server.account("jo").read("/new.txt") == b"new"
        again = log_in(run, server.url, "--account", "work")
        assert f"The mount at {place} goes on with the new login." in again.out
        assert run("unmount").out.endswith("everything is on the server.\n")
        wait_for_end(answer["pid"])
    finally:
        holder = find_holder(Folders.from_environment().state / "work")
        if holder:
            os.kill(holder.pid, signal.SIGKILL)
            wait_for_end(holder.pid)
        subprocess.run(["fusermount3", "-uz", place], check=False, capture_output=True, timeout=20)


# Bad input: a sentence and a code, no traceback.


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "http://a..b/",
        "http://" + "x" * 64 + ".example",
        "http://host/\udcff",
        "https://\ud800",
        "http://ho st/",
        "http://host:port/",
    ],
)
def test_an_address_that_is_none(run: Run, address: str, tmp_path: Path) -> None:
    result = log_in(run, address)
    assert result.code == ExitCode.USAGE
    assert result.said == ["This is not the address of a server.", "It looks like https://cloud.example.org."]
    assert nothing_is_written(tmp_path)


@pytest.mark.parametrize(("user", "password"), [("j\udcff", "x"), ("jo", "x\udcff")])
def test_a_login_that_is_no_text(run: Run, server: StandIn, user: str, password: str, tmp_path: Path) -> None:
    result = log_in(run, server.url, user=user, password=password)
    assert result.code == ExitCode.USAGE
    assert "not UTF-8" in result.said[0]
    assert nothing_is_written(tmp_path)


def test_a_user_without_a_name(run: Run, server: StandIn, tmp_path: Path) -> None:
    """Nothing is sent: a login that fails delays everybody's at this address (protocol.md)."""
    result = log_in(run, server.url, user="")
    assert (result.code, result.said[0]) == (ExitCode.USAGE, "The user name is empty.")
    assert not server.requests
    assert nothing_is_written(tmp_path)


def test_a_server_that_drips_its_answer(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cloudfs.cli.patience.PATIENCE_S", 1.0)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not over.wait(0.1):
                    connection.sendall(b"{")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            result = log_in(run, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            over.set()
            thread.join()
    assert result.code == ExitCode.UNREACHABLE
    assert nothing_is_written(tmp_path)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("cloud.example.org", "cloud.example.org"),
        ("::1", "1"),
        ("bücher.example", "b-cher.example"),
        ("例え", "account"),
        ("run", "account"),
        ("x" * 80, "x" * 63),
    ],
)
def test_every_host_gives_a_name(host: str, name: str) -> None:
    assert name_of_host(host) == name
    assert config.check_account_name(name) == name
