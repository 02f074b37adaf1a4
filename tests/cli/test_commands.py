"""Sentences and exit codes of the commands that need no server and no mount."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cloudfs import config
from cloudfs.cli.common import in_units, which_mount
from cloudfs.cli.main import app
from cloudfs.cli.refusals import explain
from cloudfs.config import Folders
from cloudfs.control.instance import Holder
from cloudfs.errors import ExitCode, Forbidden, UserError
from tests.cli.conftest import UNUSED, Run, add_account


def leaves(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Give each command with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def test_every_command_that_answers_does_so_in_json_too() -> None:
    texts = {"completion"}  # a script
    found = dict(leaves(typer.main.get_command(app)))
    without = {name for name, it in found.items() if not any("--json" in option.opts for option in it.params)}
    assert without == texts


def test_version_and_help(run: Run, run_process: Run) -> None:
    assert run_process("--version").out.startswith("cloudfs ")
    assert "mount" in run("--help").out
    assert run().code == ExitCode.USAGE


@pytest.mark.parametrize(
    "words",
    [
        ("frob",),
        ("mount",),
        ("login", "https://x", "--password-stdin"),
        ("status", "--colour"),
        ("sync", "--timeout", "soon"),
        ("sync", "--wait", "--timeout", "nan"),
        ("unmount", "--wait", "--timeout", "NaN"),
        ("pin", "--wait", "--timeout", "nan", "x"),
    ],
)
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.code == ExitCode.USAGE
    assert result.err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("status",), ExitCode.NO_ACCOUNT, "There is no account yet."),
        (("mount", "/mnt"), ExitCode.NO_ACCOUNT, "There is no account yet."),
        (("unmount",), ExitCode.NO_ACCOUNT, "There is no account yet."),
        (("sync", "--wait"), ExitCode.NO_ACCOUNT, "There is no account yet."),
        (("sync",), ExitCode.USAGE, "cloudfs sends changes by itself; there is nothing to start."),
        (
            ("mount", "a", "b", "c"),
            ExitCode.USAGE,
            "cloudfs mount takes an account and a folder, and got 3 words.",
        ),
        (("unmount", "--timeout", "5"), ExitCode.USAGE, "--timeout limits how long --wait waits."),
        (("mount", "../x", "/mnt"), ExitCode.USAGE, "'../x' cannot be the name of an account."),
    ],
)
def test_mistakes_without_an_account(run: Run, words: tuple[str, ...], code: ExitCode, sentence: str) -> None:
    result = run(*words)
    assert (result.code, result.said[0]) == (code, sentence)
    assert len(result.said) == 2  # and a next step
    assert result.out == ""


def test_status_works_without_a_daemon(run: Run, folders: Folders) -> None:
    add_account(folders, UNUSED)
    result = run("status")
    assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, f"The account {UNUSED} is not mounted.")
    answer = run("status", UNUSED, "--json")
    assert answer.code == ExitCode.NOT_MOUNTED
    assert json.loads(answer.out)["state"] == "not-mounted"
    assert json.loads(answer.out)["pid"] is None


def test_several_accounts_need_a_name(run: Run, folders: Folders) -> None:
    add_account(folders, "work")
    add_account(folders, "home")
    result = run("status")
    assert result.code == ExitCode.NO_ACCOUNT
    assert result.said[1] == "Name one of them: home, work."


def test_a_path_outside_every_mount(run: Run, folders: Folders, tmp_path: Path) -> None:
    add_account(folders)
    result = run("sync", "--wait", tmp_path)
    assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, f"{tmp_path} is in no mounted account.")
    assert run("unmount", tmp_path).code == ExitCode.NOT_MOUNTED
    assert run("unmount", "wrok").said == ["There is no account wrok.", "The accounts are: work."]


def test_a_working_folder_that_is_gone(
    run: Run, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(folders)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (("mount", "Cloud"), ("sync", "--wait", "Cloud"), ("unmount", "./Cloud")):
        result = run(*words)
        assert result.code == ExitCode.USAGE
        assert "the folder that you are in does not exist any more" in result.said[0]


def test_a_broken_account_file_names_the_place(run: Run, folders: Folders, mount_point: Path) -> None:
    add_account(folders)
    path = folders.account_file("work")
    path.write_text(path.read_text() + "[settings]\nquiet_s = 'long'\n")
    result = run("mount", mount_point)
    assert result.code == ExitCode.BAD_CONFIG
    assert re.fullmatch(rf"{path}:\d+: settings.quiet_s: .*", result.said[0])
    assert len(result.said) == 2


def test_a_missing_secret_says_how_to_get_one(run: Run, folders: Folders, mount_point: Path) -> None:
    add_account(folders)
    folders.secret_file("work").unlink()
    result = run("mount", mount_point)
    assert result.code == ExitCode.BAD_CONFIG
    assert "cloudfs login" in result.said[1]


@pytest.mark.mount
@pytest.mark.parametrize(
    ("kind", "said"), [("missing", "does not exist"), ("file", "is not a folder"), ("full", "is not empty")]
)
def test_unfit_mount_points(run: Run, folders: Folders, tmp_path: Path, kind: str, said: str) -> None:
    add_account(folders)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    before = set(tmp_path.rglob("*"))
    result = run("mount", "work", tmp_path / kind)
    assert result.code == ExitCode.MOUNT_POINT
    assert said in result.said[0]
    assert len(result.said) == 2
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.mount
def test_the_foreground_tells_its_errors_itself_and_runs_nothing_planted(
    run_process: Run, folders: Folders, tmp_path: Path
) -> None:
    add_account(folders)
    for name in ("trio", "cloudfs", "pyfuse3"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    result = run_process("mount", "missing", "--foreground", cwd=tmp_path)
    assert result.code == ExitCode.MOUNT_POINT
    assert result.said[0] == f"The mount point {tmp_path}/missing does not exist."
    assert not (tmp_path / "ran").exists()


def test_login_needs_a_password(run: Run) -> None:
    result = run("login", "https://h.example", "--user", "jo", "--password-stdin", stdin="\n")
    assert (result.code, result.said[0]) == (ExitCode.USAGE, "The password is empty.")


def test_login_with_bad_words_leaves_nothing(run: Run, tmp_path: Path) -> None:
    for words in (
        ("https://h.example", "--account", "a/b"),
        ("https://h.example", "--ca-file", tmp_path / "none.pem"),
        ("not an address",),
        ("https://u:p@h.example",),
        ("ftp://h.example",),
    ):
        result = run("login", *words, "--user", "jo", "--password-stdin", stdin="pw\n")
        assert result.code not in {ExitCode.OK, ExitCode.INTERNAL}, words
        assert result.err
    assert config.account_names(Folders.from_environment()) == []
    assert not (tmp_path / "home").exists()


def test_the_first_output_loads_nothing_heavy() -> None:
    # 0.3 s are promised; what takes the time is what is imported, and that does not depend on the machine's load.
    program = "import sys, cloudfs.cli.main, cloudfs.cli.status, cloudfs.cli.addresses; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"trio", "httpx", "lxml", "pyfuse3", "rich", "sqlite3"} & set(loaded)


def test_the_daemon_loads_nothing_of_the_command_line() -> None:
    program = "import sys, cloudfs.daemon; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"typer", "cloudfs.cli"} & set(loaded)


def test_a_daemon_that_encrypts_nothing_does_not_load_what_would() -> None:
    program = "import sys, cloudfs.daemon; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "cryptography" not in loaded


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345_678, "12 MB"),
        (9_960_000, "10 MB"),
        (999_600, "1.0 MB"),
        (10**16, "10000 TB"),
    ],
)
def test_sizes_as_people_say_them(size: int, said: str) -> None:
    assert in_units(size) == said


def test_the_nearest_mount_is_meant(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = {"outer": tmp_path, "another": tmp_path / "in", "inner": tmp_path / "in" / "inner"}
    for name in places:
        add_account(folders, name)
    monkeypatch.setattr(
        "cloudfs.cli.common.holder_of", lambda _folders, name: Holder(1, str(places[name]), "")
    )
    monkeypatch.setattr("cloudfs.cli.common._require_answer", lambda *_: None)  # there are no daemons
    assert which_mount(folders, str(tmp_path / "a")) == ("outer", "/a")
    assert which_mount(folders, str(tmp_path / "in")) == ("another", "/")
    assert which_mount(folders, str(tmp_path / "in" / "inner" / "b" / "c")) == ("inner", "/b/c")
    assert which_mount(folders, str(tmp_path / "in" / "inner2")) == ("another", "/inner2")
    with pytest.raises(UserError, match="in no mounted account"):
        which_mount(folders, "/")


def test_empty_text_is_not_the_current_folder(run: Run, folders: Folders) -> None:
    add_account(folders)
    result = run("mount", "")
    assert (result.code, result.said[0]) == (ExitCode.MOUNT_POINT, "The mount point is empty text.")


def test_somebody_elses_home_is_no_wrong_password() -> None:
    error = explain(
        Forbidden("this is the home of 'bob', and the login is 'alice'", subject="x"), "https://x"
    )
    assert error.code is ExitCode.NOT_WEBDAV
    assert "the home of 'bob'" in error.message
