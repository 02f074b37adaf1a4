"""`cloudfs pin`, `unpin` and `free` over a real mount: what they say, and what programs then find without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import Account, Hold, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def there(server: StandIn) -> Account:
    return server.account(USER)


@pytest.fixture
def contents(there: Account) -> dict[str, bytes]:
    """Put some folders there, and return their files' contents by path."""
    files = {f"/Documents/{number}.txt": os.urandom(2000 + number) for number in range(30)}
    files |= {f"/Documents/Deep/Down/{number}.txt": os.urandom(3000) for number in range(8)}
    files |= {"/Documents/large.bin": os.urandom(6 * MIB + 1), "/Other/file": os.urandom(1000)}
    for folder in ("/Documents", "/Documents/Deep", "/Documents/Deep/Down", "/Other"):
        there.mkdir(folder)
    for path, data in files.items():
        there.write(path, data)
    return files


@pytest.fixture
def settings() -> str:
    return ""


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, contents: dict[str, bytes], settings: str) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0\npoll_s = 1\n" + settings)
    yield made
    made.close()


def answers(stage: MountStage, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stage.cloudfs(*words, "--json").stdout)
    return found


def pins(stage: MountStage) -> dict[str, str]:
    found = json.loads(stage.cloudfs("pin", "--json").stdout)
    return {row["path"]: row["pin"] for row in found["pins"]}


def kept(stage: MountStage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stage.cloudfs("status", "--json").stdout)["kept"]
    return found


def is_here(stage: MountStage) -> bool:
    now = kept(stage)
    return bool(now["files"]) and not (now["missing_files"] or now["unknown_folders"])


def read_by_programs(root: Path) -> dict[str, bytes]:
    """Read a folder as another process does, with what is in it."""
    listing = subprocess.run(
        ["find", str(root), "-type", "f"], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    return {
        path.removeprefix(str(root)): subprocess.run(
            ["cat", path], check=True, capture_output=True, timeout=60
        ).stdout
        for path in listing
    }


def below(contents: dict[str, bytes], folder: str) -> dict[str, bytes]:
    return {
        path.removeprefix(folder): data for path, data in contents.items() if path.startswith(folder + "/")
    }


def test_what_is_pinned_is_readable_in_full_with_the_server_gone_and_after_a_new_mount(
    stage: MountStage, server: StandIn, contents: dict[str, bytes]
) -> None:
    documents = stage.mount_point / "Documents"
    done = stage.cloudfs("pin", "--wait", "--timeout", "60", str(documents))
    assert done.stdout == f"{documents}: always kept here; 39 files, 6.4 MB, all of it here.\n"
    server.stop()
    assert read_by_programs(documents) == below(contents, "/Documents")
    stage.cloudfs("unmount", "a")
    stage.mount()
    assert read_by_programs(documents) == below(contents, "/Documents")
    with pytest.raises(OSError, match=r"oute to host|timed out"):
        (stage.mount_point / "Other" / "file").read_bytes()
    # Counted anew at the start, as soon as no program waits for the server.
    stage.wait(lambda: "kept here   39 files, 6.4 MB, all of it here" in stage.cloudfs("status").stdout)


def test_what_appears_later_and_what_changes_comes_by_itself(
    stage: MountStage, server: StandIn, there: Account, contents: dict[str, bytes]
) -> None:
    documents = stage.mount_point / "Documents"
    stage.cloudfs("pin", "--wait", "--timeout", "60", str(documents))
    there.write("/Documents/Deep/late.bin", late := os.urandom(2 * MIB))
    there.write("/Documents/1.txt", changed := b"another content of it")
    stage.wait(lambda: kept(stage)["files"] == 40 and is_here(stage))
    expected = below(contents, "/Documents") | {"/Deep/late.bin": late, "/1.txt": changed}
    stage.wait(lambda: (documents / "1.txt").stat().st_size == len(changed) and is_here(stage))
    server.stop()
    assert read_by_programs(documents) == expected


@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_a_killed_daemon_goes_on_where_it_was(
    stage: MountStage, server: StandIn, contents: dict[str, bytes]
) -> None:
    documents = stage.mount_point / "Documents"
    held = server.faults.add(Hold(after_execution=True), method="GET", path="/Documents/large.bin", times=1)
    (answer,) = answers(stage, "pin", str(documents))
    assert (answer["pin"], answer["by"]) == ("always-local", "/Documents")
    assert held.wait_hit()
    stage.kill()
    held.release()
    stage.mount()
    stage.wait(lambda: is_here(stage))
    server.stop()
    assert read_by_programs(documents) == below(contents, "/Documents")


def test_a_pinned_folder_is_renamed_and_moved(
    stage: MountStage, server: StandIn, there: Account, contents: dict[str, bytes]
) -> None:
    stage.cloudfs("pin", "--wait", "--timeout", "60", str(stage.mount_point / "Documents"))
    (stage.mount_point / "Documents").rename(stage.mount_point / "Other" / "Papers")
    stage.sync()
    assert pins(stage) == {"/Other/Papers": "always-local"}
    there.write("/Other/Papers/Deep/new", b"new there")
    stage.wait(lambda: kept(stage)["files"] == 40 and is_here(stage))
    server.stop()
    expected = below(contents, "/Documents") | {"/Deep/new": b"new there"}
    assert read_by_programs(stage.mount_point / "Other" / "Papers") == expected


def test_free_gives_back_and_makes_an_exception_and_unpin_ends_all(
    stage: MountStage, server: StandIn, contents: dict[str, bytes]
) -> None:
    documents = stage.mount_point / "Documents"
    stage.cloudfs("pin", "--wait", "--timeout", "60", str(documents))
    before = stage.status()["cache_bytes"]
    server.stop()
    (documents / "2.txt").write_bytes(b"not sent yet")
    done = stage.cloudfs("free", str(documents / "large.bin"), str(documents / "2.txt"))
    assert done.stdout.splitlines() == [
        f"{documents}/large.bin: kept on the server only; 1 file, 6.3 MB given back.",
        f"{documents}/2.txt: kept on the server only; 0 files, 0 bytes given back.",
        "  1 file with changes that are not on the server yet stayed as they are.",
    ]
    after = stage.status()["cache_bytes"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after < before - 6 * MIB
    assert (documents / "2.txt").read_bytes() == b"not sent yet"
    server.start()
    said = stage.cloudfs("unpin", str(documents / "3.txt")).stdout
    assert "still always kept here, since /Documents is pinned" in said
    assert pins(stage) == {
        "/Documents": "always-local",
        "/Documents/2.txt": "online-only",
        "/Documents/large.bin": "online-only",
    }
    listed = stage.cloudfs("pin").stdout.splitlines()
    assert listed[0] == f"always here         {documents}"
    assert listed[2] == f"on the server only  {documents}/large.bin"
    assert "not pinned" in stage.cloudfs("unpin", str(documents)).stdout
    assert pins(stage) == {}
    assert stage.cloudfs("pin").stdout.startswith("Nothing is pinned.")
    stage.wait(lambda: kept(stage)["files"] == 0)
    assert "kept here" not in stage.cloudfs("status").stdout
    assert (documents / "large.bin").read_bytes() == contents["/Documents/large.bin"]


@pytest.mark.parametrize("settings", ["cache_keep_free_bytes = 1000000000000000"])
@pytest.mark.expect_log("no room", optional=True)
def test_what_does_not_fit_is_told_by_every_command(stage: MountStage, settings: str) -> None:
    large = stage.mount_point / "Documents" / "large.bin"
    done = stage.cloudfs("pin", str(large))
    assert "There is no room for 6.3 MB of it on the disk" in done.stdout
    done = stage.cloudfs("pin", "--wait", "--timeout", "60", str(large), check=False)
    assert done.returncode == ExitCode.PENDING
    assert done.stderr.startswith(
        "1 file is not here.\n/Documents/large.bin: no room on the disk, 6.3 MB are missing. Next step: free some"
    )
    said = stage.cloudfs("status").stdout
    assert "kept here   1 file, 6.3 MB, 1 file, 6.3 MB still to come" in said
    assert "not here    /Documents/large.bin: no room on the disk, 6.3 MB are missing" in said


def test_waiting_without_a_server_ends_in_time_and_says_so(stage: MountStage, server: StandIn) -> None:
    documents = stage.mount_point / "Documents"
    assert len(list(documents.iterdir())) == 32
    server.stop()
    done = stage.cloudfs("pin", "--wait", "--timeout", "3", str(documents), check=False)
    assert done.returncode == ExitCode.PENDING
    assert done.stderr.startswith(
        "31 files are not here in time.\nThey come as soon as the server gives them"
    )


@pytest.mark.parametrize("settings", ['keep = ["Documents/"]\nkeep_max_bytes = 1000000'])
def test_the_account_s_settings_keep_folders_by_themselves(
    stage: MountStage, server: StandIn, contents: dict[str, bytes], settings: str
) -> None:
    stage.wait(lambda: kept(stage)["files"] == 38 and is_here(stage))
    listed = stage.cloudfs("pin").stdout
    assert listed == f"by default          {stage.mount_point}/Documents, up to 1.0 MB each\n"
    said = stage.cloudfs("unpin", str(stage.mount_point / "Documents" / "1.txt")).stdout
    assert "still kept here by the account's settings" in said
    server.stop()
    found = {path: stage.mount_point / path[1:] for path in contents if path.endswith(".txt")}
    assert {path: at.read_bytes() for path, at in found.items()} == {
        path: data for path, data in contents.items() if path.endswith(".txt")
    }


@pytest.mark.parametrize("command", ["pin", "unpin", "free"])
def test_what_cannot_be_is_a_sentence_and_a_code(stage: MountStage, command: str, tmp_path: Path) -> None:
    missing = stage.mount_point / "missing"
    done = stage.cloudfs(command, str(missing), check=False)
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, f"{missing} does not exist.\nCheck the path.\n")
    done = stage.cloudfs(command, str(tmp_path), check=False)
    assert (done.returncode, done.stdout) == (ExitCode.NOT_MOUNTED, "")
    assert "is in no mounted account" in done.stderr
    done = stage.cloudfs(command, str(missing), str(tmp_path), str(stage.mount_point / "Other"), check=False)
    assert done.returncode == ExitCode.NOT_DONE
    assert done.stdout.startswith(f"{stage.mount_point / 'Other'}: ")
    assert "2 of 3 could not be done" in done.stderr


def test_timeout_without_wait_is_wrong_usage(stage: MountStage) -> None:
    done = stage.cloudfs("pin", "--timeout", "3", str(stage.mount_point), check=False)
    assert done.returncode == ExitCode.USAGE


def test_paused_nothing_comes_and_who_waits_is_told(stage: MountStage) -> None:
    documents = stage.mount_point / "Documents"
    stage.cloudfs("pause")
    done = stage.cloudfs("pin", "--wait", str(documents), check=False)
    assert done.returncode == ExitCode.PENDING
    assert "nothing is brought while the account is paused" in done.stderr
    stage.cloudfs("resume")
    assert "all of it here" in stage.cloudfs("pin", "--wait", "--timeout", "60", str(documents)).stdout


def test_clearing_the_cache_leaves_what_is_pinned(
    stage: MountStage, server: StandIn, contents: dict[str, bytes]
) -> None:
    documents, other = stage.mount_point / "Documents", stage.mount_point / "Other" / "file"
    stage.cloudfs("pin", "--wait", "--timeout", "60", str(documents))
    assert other.read_bytes() == contents["/Other/file"]
    stage.cloudfs("cache", "clear")
    assert json.loads(stage.cloudfs("info", str(other), "--json").stdout)["file"]["here"] == "none"
    server.stop()
    stage.cloudfs("unmount", "a")
    stage.mount()
    assert read_by_programs(documents) == below(contents, "/Documents")


def test_progress_is_shown_on_a_terminal(stage: MountStage, server: StandIn) -> None:
    documents = stage.mount_point / "Documents"
    held = server.faults.add(Hold(), method="GET", path="/Documents/large.bin", times=1)
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "cloudfs.cli.main", "pin", "--wait", str(documents)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=stage.environ,
        ) as command:
            os.close(theirs)  # or nobody would hear of the command's end
            shown = b""
            while b"1 file, 6.3 MB to come" not in shown:
                shown += os.read(ours, 4096)
            held.release()
            out, _ = command.communicate(timeout=60)
        assert command.returncode == 0
        assert b"all of it here" in out
    finally:
        os.close(ours)
