"""What is said of an account's way to its server, without asking it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from cloudfs.config import Account
from cloudfs.doctor import transit
from cloudfs.doctor.report import Finding, Verdict
from cloudfs.doctor.transit import check_transit

PIN = "sha256//" + "A" * 43 + "="


def found(url: str = "https://cloud.example.org/", row: str = "TLS", **settings: object) -> Finding:
    account = Account(url=url, user="jo", features={"name": "x"}, **settings)  # type: ignore[arg-type]
    return next(it for it in check_transit(account, "work") if it.name == row)


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
    assert found().reason.startswith("1.2 and later; ")
    assert "with a pinned key only" in found(pinned_keys=[PIN]).reason
    assert "shown to the server" not in found().reason


def test_old_versions_or_any_certificate_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def lax(_: object) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        return context

    monkeypatch.setattr(transit, "context_of", lax)
    assert found().verdict is Verdict.PROBLEM


def test_the_password_goes_to_one_server() -> None:
    one = found(row="address", base_url="https://cloud.example.org/nextcloud/")
    assert (one.verdict, "cloud.example.org, port 443" in one.reason) == (Verdict.OK, True)
    for base_url in ("https://evil.example.org/", "http://cloud.example.org/", "ftp://cloud.example.org/"):
        assert found(row="address", base_url=base_url).verdict is Verdict.PROBLEM


def test_the_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert found(row="proxy").reason == "none is asked"
    monkeypatch.setenv("https_proxy", "http://jo:tree-17@proxy.example.org:3128")
    assert found(row="proxy").reason == "through http://proxy.example.org:3128"
    monkeypatch.setenv("https_proxy", "socks5://jo:tree-17@proxy.example.org")
    refused = found(row="proxy")
    assert refused.verdict is Verdict.PROBLEM
    assert "tree-17" not in refused.reason + refused.repair
