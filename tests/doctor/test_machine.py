"""What is said of a machine that lacks something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudfs.doctor import machine
from cloudfs.doctor.report import Finding, Verdict


def found(device: Path = Path("/dev/fuse"), release: str = "6.1.0") -> dict[str, Finding]:
    return {finding.name: finding for finding in machine.check_machine(device, release)}


def test_a_missing_device(tmp_path: Path) -> None:
    finding = found(tmp_path / "fuse")["FUSE device"]
    assert finding.verdict is Verdict.PROBLEM
    assert "modprobe fuse" in finding.repair


@pytest.mark.parametrize(("mode", "repair"), [(0o600, "chmod 0666"), (0o660, "usermod -aG")])
def test_a_device_that_may_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, repair: str
) -> None:
    device = tmp_path / "fuse"
    device.touch()
    device.chmod(mode)
    monkeypatch.setattr(os, "access", lambda *_: False)
    finding = found(device)["FUSE device"]
    assert (finding.verdict, f"mode {mode:04o}" in finding.reason) == (Verdict.PROBLEM, True)
    assert repair in finding.repair


def test_no_table_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps `cloudfs mount` from mounting is what `doctor` has to find."""

    def verdict() -> Verdict:
        checks = machine.check_machine(table=tmp_path / "mtab")
        return {it.name: it for it in checks}["mount table"].verdict

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert verdict() is Verdict.PROBLEM
    (tmp_path / "mtab").touch()
    assert verdict() is Verdict.OK


def test_an_old_kernel() -> None:
    assert found(release="4.19.0-27-amd64")["kernel"].verdict is Verdict.NOTE
    assert found(release="5.10.0")["kernel"].verdict is Verdict.OK
    assert found(release="strange")["kernel"].verdict is Verdict.NOTE


def test_no_fusermount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = found()["fusermount3"]
    assert (finding.verdict, finding.reason) == (Verdict.PROBLEM, "it is not installed")


def test_a_fusermount_without_its_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "fusermount3"
    program.write_text("#!/bin/sh\necho fusermount3 version: 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    finding = found()["fusermount3"]
    assert (finding.verdict, "not setuid" in finding.reason) == (Verdict.PROBLEM, True)
    program.chmod(0o4755)
    assert found()["fusermount3"].reason == f"{program}, fusermount3 version: 9"
