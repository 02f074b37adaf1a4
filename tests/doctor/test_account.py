"""What is said of an account's way to its server, without asking it."""

from __future__ import annotations

from pathlib import Path

from cloudfs.config import Account
from cloudfs.doctor.account import _certificates
from cloudfs.doctor.report import Finding, Verdict

PIN = "sha256//" + "A" * 43 + "="


def found(url: str = "https://cloud.example.org/", **settings: object) -> Finding:
    return _certificates(Account(url=url, user="jo", features={"name": "x"}, **settings), "work")  # type: ignore[arg-type]


def test_an_address_that_is_not_encrypted_is_told_of() -> None:
    note = found("http://cloud.example.org/")
    assert note.verdict is Verdict.NOTE
    assert "over the network as they are" in note.reason


def test_certificates_that_cannot_be_used_are_a_problem(tmp_path: Path) -> None:
    for settings in (
        {"ca_file": str(tmp_path / "missing")},
        {"client_certificate": str(tmp_path / "missing")},
        {"pinned_keys": ["sha256//short"]},
    ):
        problem = found(**settings)
        assert problem.verdict is Verdict.PROBLEM
        assert problem.repair


def test_whom_it_trusts_is_said() -> None:
    assert found().verdict is Verdict.OK
    assert "with a pinned key only" in found(pinned_keys=[PIN]).reason
