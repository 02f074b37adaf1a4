"""Logging in with a second factor on a real Nextcloud: the browser does it, and a password alone is told so.

Only where CLOUDFS_TEST_OCC holds a command that runs the server's `occ`, which makes a user for it; `twofactor_totp`
has to be enabled there. The codes are those of a telephone's app, RFC 6238.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import shlex
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import httpx
import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import MountStage
from tests.servers.browser import Browser, form_of

pytestmark = [
    pytest.mark.real_nextcloud,
    pytest.mark.mount,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.environ.get("CLOUDFS_TEST_OCC"), reason="only with CLOUDFS_TEST_OCC set"),
]

STEP_S = 30
"""How long a code is good for."""


def occ(*words: str, **environ: str) -> str:
    """Run a command of the server's."""
    command = [*shlex.split(os.environ["CLOUDFS_TEST_OCC"]), *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env=os.environ | environ
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Telephone:
    """Makes codes. The server takes each once, and a few of the time before and after: none is waited for."""

    secret: str
    made: int = -2
    """How many steps from now the last one was good for."""

    def code(self) -> str:
        self.made += 1
        step = struct.pack(">Q", int(time.time()) // STEP_S + self.made)
        digest = hmac.digest(base64.b32decode(self.secret), step, "sha1")
        (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
        return f"{(number & 0x7FFFFFFF) % 1_000_000:06d}"


@dataclass(frozen=True)
class Person:
    """A user of the server who has a telephone for logging in."""

    url: str
    user: str
    password: str
    telephone: Telephone

    def grant(self, login_url: str, code: str | None = None) -> httpx.Response:
        """Log in at the flow's address, answer the challenge, and agree; return the last page."""
        with Browser(self.url) as browser:
            picker = browser.go(login_url)
            login_page = browser.go(form_of(picker.text)[0])
            challenge = browser.log_in(login_page, self.user, self.password)
            assert "/login/challenge/totp" in str(challenge.request.url), challenge.text[:2000]
            fields = {"challenge": code or self.telephone.code(), "requesttoken": token_of(challenge)}
            grant_page = browser.go(str(challenge.request.url), fields)
            if "/login/challenge/" in str(grant_page.request.url):
                return grant_page
            return browser.go(*form_of(grant_page.text))


def token_of(page: httpx.Response) -> str:
    """Return what a form of this page has to carry."""
    token = re.search(r'data-requesttoken="([^"]+)"', page.text)
    assert token is not None
    return unescape(token[1])


def set_up(url: str, user: str, password: str) -> Telephone:
    """Do what a person does in the settings: have a secret made, and prove that the telephone has it."""
    with Browser(url) as browser:
        browser.log_in(browser.go(f"{url}/index.php/login"), user, password)
        page = browser.go(f"{url}/index.php/settings/user/security")
        headers = {"requesttoken": token_of(page), "OCS-APIRequest": "true", "Accept": "application/json"}
        address = f"{url}/index.php/apps/twofactor_totp/settings/enable"
        made = browser.client.post(address, data={"state": "1"}, headers=headers).raise_for_status().json()
        telephone = Telephone(made["secret"])
        fields = {"state": "2", "code": telephone.code()}
        done = browser.client.post(address, data=fields, headers=headers).raise_for_status().json()
        assert done["state"] == 2, done
        return telephone


@pytest.fixture(scope="module")
def person() -> Iterator[Person]:
    url, user, password = (
        os.environ["CLOUDFS_TEST_URL"].rstrip("/"),
        f"cloudfs-{secrets.token_hex(4)}",
        secrets.token_urlsafe(20),
    )
    occ("user:add", "--password-from-env", user, OC_PASS=password)
    try:
        yield Person(url, user, password, set_up(url, user, password))
    finally:
        occ("user:delete", user)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CLOUDFS_HOME": str(tmp_path / "home")}


def test_a_login_in_the_browser_ends_in_a_mount(
    person: Person, environ: dict[str, str], tmp_path: Path
) -> None:
    mount_point = tmp_path / "cloud"
    mount_point.mkdir()

    def cloudfs(*words: str) -> str:
        done = subprocess.run(
            MountStage.command(*words), check=False, capture_output=True, text=True, env=environ, timeout=90
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    login = MountStage.command(
        "login", person.url, "--no-browser", "--account", "two", "--secret-store", "file"
    )
    with subprocess.Popen(login, stdout=subprocess.PIPE, text=True, env=environ) as waiting:
        assert waiting.stdout is not None
        address = next(word for line in waiting.stdout for word in line.split() if "/login/v2/flow/" in word)
        refused = person.grant(address, "000000")
        assert "/login/challenge/totp" in str(refused.request.url), "a wrong code lets nobody in"
        assert person.grant(address).status_code == 200
        rest = waiting.stdout.read()
    assert waiting.returncode == ExitCode.OK, rest
    assert f"Logged in as {person.user} to " in rest
    cloudfs("mount", "two", str(mount_point))
    try:
        (mount_point / "note").write_bytes(b"by a second factor")
        cloudfs("sync", "--wait", str(mount_point))
    finally:
        cloudfs("unmount", "two")
        cloudfs("logout", "two")


def test_a_password_alone_is_told_of_the_browser(person: Person, environ: dict[str, str]) -> None:
    done = subprocess.run(
        MountStage.command("login", person.url, "--user", person.user, "--password-stdin"),
        check=False, input=f"{person.password}\n", capture_output=True, text=True, env=environ, timeout=90,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (ExitCode.WRONG_PASSWORD, "")
    said = done.stderr.splitlines()
    assert len(said) == 2
    assert f"`cloudfs login {person.url}`" in said[1]
    assert not Path(environ["CLOUDFS_HOME"]).exists()
