"""The real thing: GNOME's keyring on a session bus."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.secrets import keyring
from cloudfs.secrets.keyring import KeyringStore, look
from cloudfs.secrets.protocol import KeyringAway, SecretMissing
from tests.secrets.session import Desktop

STATE = Path("/home/jo/.local/state/cloudfs")


async def test_a_life_of_a_password(desktop: Desktop) -> None:
    store = KeyringStore(STATE, "work")
    with pytest.raises(SecretMissing, match="no password for this account"):
        await store.read()
    await store.delete()
    for secret in ("first", "secönd"):
        await store.write(secret)
        assert await store.read() == secret
        assert desktop.secrets() == {f"{STATE}/work": secret}
    await store.delete()
    assert desktop.secrets() == {}


async def test_accounts_of_one_name_in_two_places_have_two_passwords(desktop: Desktop) -> None:
    one, other = KeyringStore(STATE, "work"), KeyringStore(Path("/tmp/other"), "work")
    await one.write("one")
    await other.write("other")
    assert (await one.read(), await other.read()) == ("one", "other")


async def test_what_is_no_password_is_none(desktop: Desktop) -> None:
    store = KeyringStore(STATE, "work")
    await store.write("two\nlines")
    with pytest.raises(SecretMissing, match="is no password"):
        await store.read()


async def test_how_it_is_is_told(desktop: Desktop) -> None:
    assert await look() == "ready"
    desktop.lock()
    assert await look() == "locked"
    desktop.stop_keyring()
    assert await look() == "absent"


async def test_a_locked_one_is_not_opened_by_the_way(desktop: Desktop) -> None:
    store = KeyringStore(STATE, "work")
    await store.write("secret")
    desktop.lock()
    with desktop.prompter() as asked:
        for call in (store.read, store.delete, lambda: store.write("new")):
            with pytest.raises(KeyringAway, match="The keyring is locked") as caught:
                await call()
            assert caught.value.locked
        assert asked == []
    desktop.unlock()
    assert await store.read() == "secret"


async def test_a_person_is_asked_where_that_is_wanted(desktop: Desktop) -> None:
    desktop.lock()
    with desktop.prompter() as asked:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(KeyringStore(STATE, "work").unlock)
            with trio.fail_after(60):
                while not asked:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert len(asked) == 1


async def test_without_anybody_to_ask_unlocking_ends(desktop: Desktop) -> None:
    desktop.lock()
    with trio.fail_after(60):
        await KeyringStore(STATE, "work").unlock()
    assert await look() == "locked"


async def test_one_that_hangs_holds_nobody_up(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    with desktop.silent(), monkeypatch.context() as patch:
        patch.setattr(keyring, "_AT_ONCE_S", 0.2)
        patch.setattr(keyring, "_ANSWER_S", 0.2)
        with trio.fail_after(60):
            assert await look() == "silent"
            with pytest.raises(KeyringAway, match="does not answer"):
                await KeyringStore(STATE, "work").read()
    # The threads that were left alone end by themselves once it answers.
    await KeyringStore(STATE, "work").delete()


async def test_no_bus_no_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert await look() == "absent"
    with pytest.raises(KeyringAway, match="no session bus"):
        await KeyringStore(STATE, "work").read()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    assert await look() == "absent"
    with pytest.raises(KeyringAway, match="There is no keyring: "):
        await KeyringStore(STATE, "work").read()


async def test_the_bus_is_found_where_it_always_is(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    assert await look() == "absent"
    folder = Path(desktop.address.removeprefix("unix:path=")).parent
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    assert await look() == "ready"
