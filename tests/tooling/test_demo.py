"""The demo from its first line to its last: what it shows, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from cloudfs.errors import ExitCode
from scripts._demo import clear_killed

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "tree-house-17"

pytestmark = [pytest.mark.mount, pytest.mark.slow]


class Demo:
    """A running demo, in a temporary folder of its own, without a terminal."""

    def __init__(self, folder: Path, *options: str, password: str = "") -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [REPOSITORY / "scripts/demo", *options],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self.output = ""
        assert self.process.stdin
        with self.process.stdin as answers:
            answers.write(password + "\n")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    def wait_until_said(self, text: str) -> None:
        """Return when the demo printed `text`; fail when it ends without."""
        deadline = time.monotonic() + 60
        while text not in self.output:
            assert self._reader.is_alive(), self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Return the exit code."""
        code = self.process.wait(timeout=90)
        self._reader.join(timeout=10)
        return code

    def find(self, pattern: str) -> str:
        """Return what the demo printed in the group of `pattern`."""
        found = re.search(pattern, self.output, re.MULTILINE)
        assert found, self.output
        return found.group(1)

    def leftovers(self) -> list[str]:
        """Return what the demo left in its folder."""
        return sorted(os.listdir(self.folder))


@pytest.fixture
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server that is not the demo's own, and return it with its address."""
    password_file = tmp_path_factory.mktemp("server") / "password"
    password_file.write_text(PASSWORD)
    command = [
        sys.executable,
        "-m",
        "tests.servers.standin",
        "--user",
        "zoe",
        "--password-file",
        str(password_file),
    ]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield server, json.loads(server.stdout.readline())["url"]
        server.kill()


def test_the_made_up_account_is_shown_and_nothing_stays(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.wait_until_said("Ctrl-C here ends it.")
    mount = Path(demo.find(r"^    (/\S+/cloud)$"))
    assert {"Archive", "Documents", "Pictures", "Projects", "Welcome.md"} <= set(os.listdir(mount))
    assert os.stat(mount / "Backups/disk image.img").st_size == 200 * 1024 * 1024
    with (mount / "Backups/disk image.img").open("rb") as image:
        image.seek(150 * 1024 * 1024)
        assert image.readline() == b"this is MiB 150 of the disk image\n"
    (mount / "hello.txt").write_text("hello\n")

    home = demo.find(r"CLOUDFS_HOME=(\S+)")
    sync = [str(Path(sys.executable).with_name("cloudfs")), "sync", "--wait"]
    subprocess.run(sync, env={**os.environ, "CLOUDFS_HOME": home}, check=True, timeout=60)
    netrc = httpx.NetRCAuth(demo.find(r"--netrc-file (\S+)"))
    assert httpx.get(demo.find(r"(http://\S+/hello\.txt)"), auth=netrc).text == "hello\n"

    demo.interrupt()
    assert demo.wait() == 0, demo.output
    assert demo.leftovers() == []


def test_a_real_account_gets_every_change_before_the_end(
    tmp_path: Path, standin: tuple[subprocess.Popen[str], str]
) -> None:
    _, url = standin
    demo = Demo(tmp_path, "--url", url, "--user", "zoe", password=PASSWORD)
    demo.wait_until_said("Ctrl-C here ends it.")
    home = Path(demo.find(r"export CLOUDFS_HOME=(\S+)"))
    [secret] = [path.read_text().strip() for path in home.rglob("*secret*")]
    assert secret != PASSWORD
    (tmp_path / "cloud" / "last words.txt").write_text("here they are")
    demo.interrupt()
    assert demo.wait() == 0, demo.output
    assert demo.leftovers() == []
    address = f"{url}/remote.php/dav/files/zoe/last%20words.txt"
    assert httpx.get(address, auth=("zoe", PASSWORD)).text == "here they are"
    assert httpx.get(address, auth=("zoe", secret)).status_code == 401  # nobody needs it any more


def test_nobody_there_to_give_a_password_ends_it_with_a_sentence(tmp_path: Path) -> None:
    command = [str(REPOSITORY / "scripts/demo"), "--url", "http://127.0.0.1:9", "--user", "zoe"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == ExitCode.USAGE
    assert "demo: no password came" in done.stdout
    assert "Traceback" not in done.stdout


def test_what_a_real_server_did_not_get_is_kept(
    tmp_path: Path, standin: tuple[subprocess.Popen[str], str]
) -> None:
    server, url = standin
    demo = Demo(tmp_path, "--url", url, "--user", "zoe", password=PASSWORD)
    demo.wait_until_said("Ctrl-C here ends it.")
    os.listdir(tmp_path / "cloud")  # or nobody could know what "last words" would replace
    server.kill()
    (tmp_path / "cloud" / "last words.txt").write_text("nobody hears them")
    demo.interrupt()
    demo.wait_until_said("changes are on their way")
    demo.interrupt()
    assert demo.wait() == 0, demo.output
    kept = demo.find(r"what is missing on the server is kept in (\S+)\. To send it:")
    assert demo.leftovers() == [Path(kept).name]
    staged = [path for path in Path(kept, "home").rglob("*") if path.is_file()]
    assert any(path.read_bytes() == b"nobody hears them" for path in staged)


def test_a_mount_point_that_cannot_be_used_ends_it_with_the_command_s_code(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    demo = Demo(tmp_path, "--mountpoint", "full")
    assert demo.wait() == ExitCode.MOUNT_POINT, demo.output
    assert "Traceback" not in demo.output
    assert demo.leftovers() == ["full"]


def test_a_server_that_does_not_answer_ends_it_with_the_command_s_code(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--url", "http://127.0.0.1:9", "--user", "zoe", password=PASSWORD)
    assert demo.wait() == ExitCode.UNREACHABLE, demo.output
    assert "Traceback" not in demo.output
    assert demo.leftovers() == []


def test_what_a_refused_login_asks_for_can_be_given(tmp_path: Path) -> None:
    demo = Demo(
        tmp_path, "--url", "https://127.0.0.1:9", "--user", "zoe", "--ca-file", "no.pem", password=PASSWORD
    )
    assert demo.wait() != 0
    assert "no.pem" in demo.output
    assert "Traceback" not in demo.output
    assert demo.leftovers() == []


def test_a_kill_in_the_middle_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.wait_until_said("making an account")
    demo.process.terminate()
    assert demo.wait() == 0, demo.output
    assert demo.leftovers() == []


def test_what_a_killed_demo_left_goes_when_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "cloudfs-demo-kept"
    kept.mkdir()
    (kept / "home").touch()  # of a real account, whose changes may be wanted yet
    demo = Demo(tmp_path)
    demo.wait_until_said("Ctrl-C here ends it.")
    mount = Path(demo.find(r"^    (/\S+/cloud)$"))
    clear_killed()
    assert os.listdir(mount)  # it lives
    demo.process.kill()
    demo.process.wait(timeout=90)
    assert os.path.ismount(mount)
    clear_killed()
    assert capsys.readouterr().out == f"demo: removed what a killed demo had left in {mount.parent}.\n"
    assert demo.leftovers() == [kept.name]
    assert str(mount) not in Path("/proc/self/mounts").read_text()
    assert processes_of(mount.parent) == []
    demo.wait()  # nobody holds its output open any more


def processes_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(folder) in (words := path.read_bytes()):
                found.append(os.fsdecode(words))
    return found
