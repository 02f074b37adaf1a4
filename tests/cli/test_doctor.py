"""`cloudfs doctor`: what it finds, what it mends, and what it says to programs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cloudfs.cli import doctor
from cloudfs.config import Account, Folders, Settings, load_account, save_account
from cloudfs.control.instance import find_holder
from cloudfs.doctor.report import Verdict
from cloudfs.errors import ExitCode
from cloudfs.fuse.mounts import FS_TYPE, MountEntry, source_of
from cloudfs.store.store import Store
from tests.cli.conftest import Run, add_account
from tests.fuse.conftest import is_mounted
from tests.fuse.test_operations import wait_for

Mount = Callable[..., int]


def lines(run: Run, *words: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in json.loads(run("doctor", "--json", *words).out)}


@pytest.mark.usefixtures("folders")
def test_without_an_account(run: Run) -> None:
    found = lines(run)
    assert {"kernel", "FUSE device", "fusermount3", "folders", "mounts"} <= found.keys()
    assert (found["accounts"]["verdict"], found["accounts"]["repair"]) == (
        "note",
        "Begin with `cloudfs login URL`.",
    )


def test_an_account_in_order(run: Run, folders: Folders) -> None:
    add_account(folders)
    Store(folders.account_state("work") / "state.sqlite").close()
    found = lines(run, "--offline")
    assert [found[name]["verdict"] for name in ("config", "password", "TLS", "database")] == ["ok"] * 4
    assert (found["cache"]["verdict"], found["daemon"]["verdict"]) == ("skipped", "skipped")
    assert found["server"] == {
        "account": "work",
        "name": "server",
        "verdict": "skipped",
        "reason": "it was not to be asked",
        "repair": "",
        "fixable": False,
    }


def test_what_is_broken_is_named_with_its_repair(run: Run, folders: Folders) -> None:
    add_account(folders, "work")
    folders.secret_file("work").unlink()
    (folders.state / "work" / "state.sqlite").write_bytes(b"no database" * 1000)
    (folders.state / "work" / "state.sqlite").chmod(0o600)
    folders.account_file("other").write_text("url = 1\n")
    result = run("doctor", "--offline")
    assert result.code == ExitCode.UNWELL
    assert result.said == ["3 problems were found.", "Each line says what mends it."]
    for text in ("problem  work: password", "problem  work: database", "problem  other: config"):
        assert text in result.out
    assert "\033" not in result.out
    assert "Log in again" in result.out


def test_a_folder_that_others_may_read(run: Run, folders: Folders) -> None:
    folders.state.chmod(0o755)
    assert lines(run)["folders"]["fixable"]
    result = run("doctor", "--fix")
    assert result.code == ExitCode.OK
    assert "is open to others: mended" in result.out
    assert lines(run)["folders"]["verdict"] == "ok"


def test_an_address_that_nobody_answers_at(run: Run, folders: Folders) -> None:
    add_account(folders)
    save_account(folders, "work", Account(url="http://127.0.0.1:9/dav/", user="jo", features={"name": "x"}))
    found = lines(run)
    assert (found["server"]["verdict"], found["push"]["verdict"]) == ("note", "skipped")


def test_one_account_of_several(run: Run, folders: Folders) -> None:
    add_account(folders, "work")
    folders.account_file("other").write_text("url = 1\n")
    assert run("doctor", "--offline", "work").code == ExitCode.OK
    assert run("doctor", "--offline", "wrok").code == ExitCode.NO_ACCOUNT


@pytest.mark.mount
def test_a_mount_that_is_well(run: Run, mounted: Mount, mount_point: Path) -> None:
    pid = mounted()
    told = json.loads(run("doctor", "--offline", "--json").out)
    # Beside it are the mounts of other tests at the same time, also dead ones.
    assert f"{mount_point} answers; default_permissions, nodev, nosuid; nobody else gets in" in [
        line["reason"] for line in told if line["name"] == "mounts"
    ]
    found = {line["name"]: line for line in told}
    for row in ("memory", "log", "files", "others"):
        assert found[row]["verdict"] == "ok", found[row]
    assert found["daemon"]["reason"] == f"process {pid} answers: online"


def test_a_mount_without_what_makes_it_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    options = frozenset({"rw", "nosuid", "nodev", "default_permissions", f"user_id={os.getuid()}"})
    for lacking in ("", "nosuid", "nodev", "default_permissions"):
        entry = MountEntry(7, "0:7", "/m", FS_TYPE, source_of("work"), options - {lacking})
        monkeypatch.setattr(doctor, "all_mounts", lambda entry=entry: [entry])
        monkeypatch.setattr(doctor, "probe", lambda _: 0)
        (found,) = doctor._mounts(["work"])
        assert (found.verdict, lacking in found.reason) == (Verdict.PROBLEM if lacking else Verdict.OK, True)


def test_letting_others_in_takes_the_administrators_word(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(folders)
    account = load_account(folders, "work")
    save_account(folders, "work", replace(account, settings=Settings(allow_other=True)))
    for may, verdict in ((True, "note"), (False, "problem")):
        monkeypatch.setattr(doctor, "may_allow_other", lambda may=may: may)
        assert lines(run)["others"]["verdict"] == verdict


@pytest.mark.mount
def test_a_dead_mount_is_cleared_when_asked(
    run: Run, folders: Folders, mounted: Mount, mount_point: Path
) -> None:
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    # Until then the kernel answers by itself.
    wait_for(lambda: not os.path.exists(mount_point), 30)
    result = run("doctor", "--offline")
    assert (result.code, result.said[1]) == (
        ExitCode.UNWELL,
        "`cloudfs doctor --fix` mends what is safe to mend.",
    )
    assert f"{mount_point} is dead: its process is gone" in result.out
    assert is_mounted(mount_point)
    assert run("doctor", "--offline", "--fix").code == ExitCode.OK
    assert not is_mounted(mount_point)
    assert os.listdir(folders.runtime) == []


@pytest.mark.mount
def test_what_cannot_go_up_is_a_problem(run: Run, mounted: Mount) -> None:
    mounted(pending=1, blocked=True)
    assert lines(run, "--offline")["to send"]["verdict"] == "problem"
