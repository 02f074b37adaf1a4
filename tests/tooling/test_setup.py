"""The set-up on machines that lack something: a copy of the script sees only the programs that it is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BASICS = ("bash", "cat", "dirname", "env", "flock", "id", "readlink", "sed", "sha256sum")


class Machine:
    """A copy of the project's set-up, and the only folder on PATH."""

    def __init__(self, folder: Path) -> None:
        self.project, self.programs, self.asked = folder / "project", folder / "bin", folder / "asked"
        (self.project / "scripts").mkdir(parents=True)
        self.programs.mkdir()
        shutil.copy(REPOSITORY / "scripts/setup", self.project / "scripts")
        shutil.copy(REPOSITORY / "pyproject.toml", self.project)
        shutil.copytree(REPOSITORY / "requirements", self.project / "requirements")
        for name in BASICS:
            self.add(name, f'exec {shutil.which(name)} "$@"')
        self.add("python3", f'exec {sys.executable} "$@"')

    def add(self, name: str, body: str) -> None:
        """Put a program on PATH."""
        program = self.programs / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)

    def add_recorder(self, name: str, then: str = "") -> None:
        """Put a program on PATH that writes down how it was called."""
        self.add(name, f'echo "{name} $*" >>{self.asked}\n{then}')

    def set_up(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the set-up."""
        return subprocess.run(
            [self.project / "scripts/setup", *options],
            env={"PATH": str(self.programs), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """How the recorders were called."""
        return self.asked.read_text().splitlines() if self.asked.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_apt_it_names_what_is_missing_and_changes_nothing(machine: Machine) -> None:
    result = machine.set_up()
    assert result.returncode == 1
    assert "no apt-get" in result.stderr
    assert "fuse3 pkg-config libfuse3-dev gcc libc6-dev" in result.stderr
    assert not (machine.project / ".venv").exists()


def test_without_sudo_it_says_what_root_has_to_do(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.add_recorder("apt-get")
    result = machine.set_up()
    assert result.returncode == 1
    assert "As root: apt-get install fuse3 pkg-config libfuse3-dev gcc libc6-dev" in result.stderr
    assert machine.calls == []


def test_it_installs_through_sudo_only_what_is_missing(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.add("pkg-config", "true")
    machine.add("cc", "true")
    machine.add_recorder("sudo", 'exec "$@"')
    machine.add_recorder("apt-get")
    machine.add("python3", "exit 1")
    result = machine.set_up()
    assert result.returncode == 1
    assert "needs Python 3.11" in result.stderr  # the recorder installed nothing
    assert "set-up: installing with apt: python3 python3-venv python3-dev fuse3" in result.stderr
    options = "-y -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0"
    packages = "install --no-install-recommends python3 python3-venv python3-dev fuse3"
    assert machine.calls == [
        f"apt-get --simulate -qq {packages}",
        f"sudo env DEBIAN_FRONTEND=noninteractive apt-get {options} {packages}",
        f"apt-get {options} {packages}",
    ]


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_system_that_was_never_started_gets_its_table_of_mounts(
    machine: Machine, tmp_path: Path, uid: int
) -> None:
    script, table = machine.project / "scripts/setup", tmp_path / "mtab"
    script.write_text(script.read_text().replace("/etc/mtab", str(table)))
    machine.add("id", f"echo {uid}")
    machine.add_recorder("sudo", 'exec "$@"')
    machine.add("ln", f'exec {shutil.which("ln")} "$@"')
    result = machine.set_up()
    assert (f"set-up: making {table}" in result.stderr) == table.is_symlink() == (uid != 0)
    assert all("/proc/self/mounts" in call for call in machine.calls)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_a_refused_table_of_mounts_ends_nothing(
    machine: Machine, tmp_path: Path, there: bool
) -> None:
    script, table = machine.project / "scripts/setup", tmp_path / "mtab"
    script.write_text(script.read_text().replace("/etc/mtab", str(table)))
    machine.add("id", "echo 1000")
    machine.add_recorder("sudo", 'exec "$@"' if there else "exit 1")
    machine.add("ln", f'exec {shutil.which("ln")} "$@"')
    if there:
        table.symlink_to("leads nowhere")
    result = machine.set_up()
    assert table.is_symlink() == there
    assert not there or table.readlink() == Path("leads nowhere")
    assert "no apt-get" in result.stderr, "it goes on with what is missing"
    assert there or f"set-up: {table} could not be made" in result.stderr


def test_package_lists_are_updated_only_when_they_do_not_know_a_package(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add_recorder(
        "apt-get", f"[ $1 != --simulate ] || exit 100; [ $(grep -c . {machine.asked}) -lt 3 ]"
    )
    machine.add("grep", 'exec /usr/bin/grep "$@"')
    result = machine.set_up()
    assert "updating apt's package lists" in result.stderr
    assert "apt could not install" in result.stderr
    assert [call.split(" ")[1] for call in machine.calls] == ["--simulate", "-qq", "-y"]


def test_a_named_interpreter_that_is_too_old_or_missing_is_refused(machine: Machine) -> None:
    result = machine.set_up(CLOUDFS_PYTHON="python2.7")
    assert result.returncode == 1
    assert "CLOUDFS_PYTHON=python2.7 is no Python of at least 3.11" in result.stderr


def test_an_unknown_option_is_refused(machine: Machine) -> None:
    result = machine.set_up("--everything")
    assert result.returncode == 1
    assert "usage: scripts/setup [--lint | --tests | --deb | --fuzz]" in result.stderr


def test_nothing_to_do_is_quick_and_silent() -> None:
    started = time.monotonic()
    result = subprocess.run(
        [REPOSITORY / "scripts/setup", "--lint"], capture_output=True, text=True, check=True, timeout=60
    )
    if result.stderr:
        pytest.skip("there was something to do")  # pyproject.toml or the script changed since the last set-up
    assert time.monotonic() - started < 1.0  # 0.05 s, and some patience with a busy machine


@pytest.mark.parametrize("script", ["build-deb", "check", "demo", "fmt", "fuzz", "lock", "setup", "test"])
def test_scripts_can_be_run(script: str) -> None:
    path = REPOSITORY / "scripts" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
