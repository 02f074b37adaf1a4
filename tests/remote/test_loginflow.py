"""Login flow v2: where its addresses lead, what is waited out, and who never hears of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from cloudfs.errors import Forbidden, ProtocolViolation
from cloudfs.remote import loginflow
from cloudfs.remote.loginflow import Granted, LoginFlow, rebased
from tests.servers import StandIn
from tests.servers.browser import Browser
from tests.servers.standin.faults import Answer, Drop

PASSWORD = "login-Pass-123"
TYPED = "https://cloud.example.org/nc/"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn({"jo": PASSWORD}) as server:
        yield server


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loginflow, "_EVERY_S", 0.01)


@pytest.mark.parametrize(
    "made",
    [
        "http://internal:8080/login/v2/poll",
        "http://cloud.example.org/login/v2/poll",
        "https://cloud.example.org/nc/login/v2/poll",
        "https://other.example.org/cloud/login/v2/poll",
        "http://[::1]:81/a/b/login/v2/poll",
    ],
)
def test_addresses_are_led_to_what_was_typed(made: str) -> None:
    assert rebased(made, TYPED) == f"{TYPED}login/v2/poll"


@pytest.mark.parametrize(
    ("made", "end"),
    [
        ("http://internal/index.php/login/v2/flow/aB3", "index.php/login/v2/flow/aB3"),
        ("http://internal/x/index.php/login/v2/flow/aB3?user=", "index.php/login/v2/flow/aB3?user="),
    ],
)
def test_the_page_keeps_its_front_controller_and_token(made: str, end: str) -> None:
    assert rebased(made, TYPED) == f"{TYPED}{end}"


@pytest.mark.parametrize(
    "made",
    [
        "",
        "javascript:alert(1)//login/v2/flow/x",
        "https://[::1/login/v2/poll",
        "https://cloud.example.org/nc/evil",
        "https://h/login/v2/flow/x/../../../../evil",
        "https://h/login/v2/flow/x%2f..%2fevil",
        "https://h/login/v2/flow/\x1b[2Jx",
        "https://h/login/v2/flow/x?a=\x1b[2J",
        "https://h/login/v2/flow/x?a='b",
        f"https://h/login/v2/flow/{'x' * 3000}",
        f"https://h/login/v2/flow/x?a={'x' * 3000}",
    ],
)
def test_an_address_that_is_none_of_the_flow_is_refused(made: str) -> None:
    with pytest.raises(ProtocolViolation):
        rebased(made, TYPED)


def run_flow(server: StandIn, *, agree: bool = True) -> Granted | None:
    """Begin a flow, have somebody agree, and return what was handed over."""

    async def main() -> Granted | None:
        flow = await LoginFlow.begin(f"{server.url}/", "cloudfs on x")
        assert flow is not None
        async with flow:
            if agree:
                with Browser(server.url) as browser:
                    await trio.to_thread.run_sync(browser.grant, flow.login_url, "jo", PASSWORD)
            return await flow.granted()

    return trio.run(main)


@pytest.mark.usefixtures("soon")
def test_what_may_pass_is_waited_out(server: StandIn) -> None:
    for action in (
        Drop(),
        Answer(503, b"busy"),
        Answer(502),
        Answer(200, b"<html>portal</html>"),
        Answer(404),
    ):
        server.faults.add(action, path="/login/v2/poll$")
    granted = run_flow(server)
    assert granted is not None
    assert granted.login_name == "jo"
    assert granted.app_password in server.site.users.get("jo").app_passwords  # type: ignore[union-attr]
    assert granted.app_password not in repr(granted)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"loginName":"","appPassword":"x"}',
        b'{"loginName":"jo\\u001b[2J","appPassword":"x"}',
        b'{"loginName":"jo","appPassword":""}',
        b'{"loginName":"jo","appPassword":"a\\nb"}',
        b'{"loginName":"jo","appPassword":"' + b"x" * 5000 + b'"}',
    ],
)
def test_credentials_that_are_none(server: StandIn, body: bytes) -> None:
    server.faults.add(Answer(200, body), path="/login/v2/poll$")
    with pytest.raises(ProtocolViolation):
        run_flow(server)


@pytest.mark.usefixtures("soon")
def test_a_refusal_ends_it(server: StandIn) -> None:
    server.faults.add(Answer(403), path="/login/v2/poll$")
    with pytest.raises(Forbidden):
        run_flow(server)


@pytest.mark.usefixtures("soon")
def test_nobody_agrees_in_time(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loginflow, "LIFETIME_S", 0.2)
    assert run_flow(server, agree=False) is None


@pytest.mark.usefixtures("soon")
def test_nothing_goes_to_the_address_that_the_server_makes(server: StandIn) -> None:
    """The server takes another for itself; a redirect of the poll is not followed there either."""
    with StandIn({"jo": PASSWORD}) as other:
        server.application.web_login.own_url = other.url
        other.site.users.get("jo").password = "another"  # type: ignore[union-attr]
        assert run_flow(server) is not None
        assert other.requests.count() == 0
        server.faults.add(Answer(307, headers={"Location": f"{other.url}/login/v2/poll"}), path="/poll$")
        with pytest.raises(ProtocolViolation):
            run_flow(server)
        assert other.requests.count() == 0


@pytest.mark.parametrize("status", [404, 405, 403, 302])
def test_a_server_without_the_flow(server: StandIn, status: int) -> None:
    server.faults.add(Answer(status, b"<html></html>"), path="/login/v2$")
    assert trio.run(LoginFlow.begin, f"{server.url}/", "x") is None


def test_a_page_instead_of_a_flow(server: StandIn) -> None:
    server.faults.add(Answer(200, b"<html></html>"), path="/login/v2$")
    assert trio.run(LoginFlow.begin, f"{server.url}/", "x") is None
