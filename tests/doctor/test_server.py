"""What is said of a server, and of one that cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import trio

from cloudfs.cli.refusals import explain
from cloudfs.config import Account
from cloudfs.doctor import server as doctor
from cloudfs.doctor.report import Finding, Verdict
from cloudfs.errors import RemoteError, UserError
from cloudfs.remote.connect import discover
from tests.functional.stages import PASSWORD, USER
from tests.servers import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


async def account_on(server: StandIn) -> Account:
    site = await discover(server.url, USER, PASSWORD)
    return Account(
        url=site.root_url,
        user=site.user,
        user_id=site.user_id or "",
        base_url=site.base_url or "",
        features=msgspec.to_builtins(site.features),
    )


async def look(account: Account, secret: str = PASSWORD) -> dict[str, Finding]:
    def told(error: RemoteError) -> UserError:
        return explain(error, account.url)

    return {finding.name: finding async for finding in doctor.check_server(account, secret, "work", told)}


async def test_one_that_is_well(server: StandIn) -> None:
    found = await look(await account_on(server))
    assert [name for name, it in found.items() if it.verdict is Verdict.PROBLEM] == []
    assert found["server"].reason.startswith("Nextcloud ")
    assert {found[name].verdict for name in ("login", "WebDAV", "clock", "large files", "small files")} == {
        Verdict.OK
    }
    assert {it.account for it in found.values()} == {"work"}


async def test_one_that_is_away(server: StandIn) -> None:
    account = await account_on(server)
    server.stop()
    found = await look(account)
    assert (found["server"].verdict, bool(found["server"].repair)) == (Verdict.NOTE, True)
    assert {it.verdict for name, it in found.items() if name != "server"} == {Verdict.SKIPPED}


async def test_one_that_refuses_the_login_is_asked_once(server: StandIn) -> None:
    account = await account_on(server)
    server.requests.reset()
    found = await look(account, "wrong")
    assert (found["server"].verdict, found["login"].verdict) == (Verdict.OK, Verdict.PROBLEM)
    assert "cloudfs login" in found["login"].repair
    assert len([record for record in server.requests if record.status == 401]) == 1


async def test_one_that_never_answers(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await account_on(server)
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.0)
    with trio.fail_after(10):
        found = await look(account)
    assert "cannot be reached: no answer within" in found["server"].reason
    assert "network" in found["server"].repair


@pytest.mark.parametrize(
    ("skew_s", "verdict", "side"),
    [
        (0.0, Verdict.OK, ""),
        (-30.0, Verdict.OK, ""),
        (7200.0, Verdict.PROBLEM, "behind"),
        (-90.0, Verdict.PROBLEM, "ahead"),
    ],
)
def test_clocks(skew_s: float, verdict: Verdict, side: str) -> None:
    finding = doctor._clock(skew_s, "work")
    assert (finding.verdict, side in finding.reason) == (verdict, True)
