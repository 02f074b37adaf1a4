"""Requests that are looked up in a table: events, signs of life, subscriptions, wrong parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.control.client import Client
from cloudfs.control.methods import Tell, method
from cloudfs.control.pinning import Keep, PinMoved, Pinned, PinRow, Pins
from cloudfs.control.protocol import Status
from cloudfs.control.records import Nothing, Paused, Watch
from cloudfs.errors import ExitCode, UserError
from tests.control.test_server import STATUS, Pretender, ask, raw_client, serving


async def test_events_come_before_the_result(tmp_path: Path) -> None:
    handlers = Pretender()

    async def watch(wanted: Watch, tell: Tell) -> dict[str, object]:
        assert wanted.every_s == 0.5
        await tell(STATUS)
        await tell(None)
        await tell(STATUS)
        return {}

    handlers.methods["watch"] = method(Watch, watch)
    heard: list[Status] = []

    def talk() -> None:
        with Client(tmp_path, "work.sock") as client:
            client.watch(heard.append, 0.5)

    async with serving(tmp_path, handlers):
        await trio.to_thread.run_sync(talk)
    assert heard == [STATUS, STATUS]


async def test_pins_are_asked_for_and_said(tmp_path: Path) -> None:
    handlers = Pretender()
    told: list[PinMoved] = []
    pins = Pins(pins=[PinRow("/docs", "always-local")], defaults=["/x"], defaults_most_bytes=5)

    async def pin(wanted: Keep, tell: Tell) -> Pinned:
        await tell(PinMoved(2, 5000))
        return Pinned(
            path=wanted.path,
            pin=wanted.pin,
            by=None,
            by_default=False,
            files=3,
            bytes=9,
            missing_files=0,
            missing_bytes=0,
            unknown_folders=0,
        )

    async def all_pins(_: Nothing, _tell: Tell) -> Pins:
        return pins

    handlers.methods |= {"pin": method(Keep, pin), "pins": method(Nothing, all_pins)}

    def talk() -> None:
        with Client(tmp_path, "work.sock") as client:
            assert client.pins() == pins
            answer = client.pin(Keep("/docs", "online-only", wait=True), told.append)
            assert (answer.path, answer.pin, answer.files) == ("/docs", "online-only", 3)

    async with serving(tmp_path, handlers):
        await trio.to_thread.run_sync(talk)
        async with raw_client(tmp_path) as client:
            for params in (b'{"path": "/a", "pin": "sometimes"}', b'{"path": "/a"}'):
                reply = await ask(client, b'{"v": 1, "id": 5, "method": "pin", "params": %s}' % params)
                assert (reply["error"]["code"], "parameters" in reply["error"]["message"]) == (
                    ExitCode.USAGE,
                    True,
                )
    assert told == [PinMoved(2, 5000)]


async def test_who_waits_hears_that_the_daemon_lives(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    handlers = Pretender()

    async def pause(_: Nothing, _tell: Tell) -> Paused:
        await trio.sleep(35)
        return Paused(1.0, 0, 0)

    handlers.methods["pause"] = method(Nothing, pause)
    async with serving(tmp_path, handlers), raw_client(tmp_path) as client:
        await client.send_all(b'{"v": 1, "id": 3, "method": "pause"}\n')
        said = b""
        while b'"result"' not in said:
            said += await client.receive_some()
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line.get("event", "none") for line in lines] == [None, None, None, "none"]
    assert lines[-1]["result"]["since"] == 1.0


async def test_what_it_is_told_wrongly_it_says(tmp_path: Path) -> None:
    handlers = Pretender()

    async def refuse(_: Nothing, _tell: Tell) -> None:
        raise UserError("It is not so.", hint="Look.", code=ExitCode.NOT_DONE)

    handlers.methods["pause"] = method(Nothing, refuse)
    async with serving(tmp_path, handlers), raw_client(tmp_path) as client:
        reply = await ask(client, b'{"v": 1, "id": 1, "method": "pause", "params": {"x": 1}}')
        assert reply["error"]["code"] == ExitCode.USAGE
        assert "parameters" in reply["error"]["message"]
        reply = await ask(client, b'{"v": 1, "id": 2, "method": "pause"}')
        assert reply["error"] == {"code": 6, "message": "It is not so.", "hint": "Look."}
        reply = await ask(client, b'{"v": 1, "id": 3, "method": "frob"}')
        assert "another version" in reply["error"]["hint"]
        assert (await ask(client, b'{"v": 1, "id": 5, "method": "status"}'))["result"]["pid"] == 7


@pytest.mark.expect_log("a control request failed unexpectedly")
async def test_a_bug_in_one_is_an_answer_and_ends_nothing(tmp_path: Path) -> None:
    handlers = Pretender()

    async def break_down(_: Nothing, _tell: Tell) -> None:
        raise ZeroDivisionError

    handlers.methods["resume"] = method(Nothing, break_down)
    async with serving(tmp_path, handlers), raw_client(tmp_path) as client:
        reply = await ask(client, b'{"v": 1, "id": 4, "method": "resume"}')
        assert reply["error"]["code"] == ExitCode.INTERNAL
        assert (await ask(client, b'{"v": 1, "id": 5, "method": "status"}'))["result"]["pid"] == 7


async def test_who_hangs_up_ends_a_subscription(tmp_path: Path) -> None:
    handlers = Pretender()
    ended = trio.Event()

    async def watch(_: Watch, tell: Tell) -> None:
        try:
            await tell(STATUS)
            await trio.sleep_forever()
        finally:
            ended.set()

    handlers.methods["watch"] = method(Watch, watch)
    async with serving(tmp_path, handlers):
        async with raw_client(tmp_path) as client:
            await client.send_all(b'{"v": 1, "id": 1, "method": "watch"}\n')
            assert b'"event"' in await client.receive_some()
        with trio.fail_after(10):
            await ended.wait()
