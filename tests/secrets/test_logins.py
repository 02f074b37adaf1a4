"""A mount whose password cannot be read yet: nothing is sent, nobody waits, and it goes on by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from cloudfs.account.logins import Login
from cloudfs.errors import NotAuthenticated, Unreachable, UserError
from cloudfs.sync.connectivity import Connectivity, State
from tests.secrets.memory import MemoryKeyring


class Account:
    """What logs in, and what is known of the server."""

    def __init__(self, login: Login) -> None:
        self.passwords = [login.secret] if login.secret else []
        self.returned = self.greeted = 0
        self.connectivity = Connectivity(self._return, withheld=login.withheld)
        login.attach(self, self.connectivity, self._greet)

    def use_password(self, password: str) -> None:
        self.passwords.append(password)

    def _return(self) -> None:
        self.returned += 1

    async def _greet(self) -> None:
        self.connectivity.check_login()
        self.greeted += 1


@asynccontextmanager
async def begun(keyring: MemoryKeyring, *, may_prompt: bool = False) -> AsyncIterator[tuple[Login, Account]]:
    stamps = [0]
    login = Login(lambda: keyring, lambda: stamps[0], may_prompt=may_prompt)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.run)
        await login.begin()
        yield login, Account(login)
        nursery.cancel_scope.cancel()


async def test_one_that_is_open_is_read_before_the_mount(autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    async with begun(MemoryKeyring("pass")) as (_, account):
        assert account.passwords == ["pass"]
        assert account.connectivity.online
        assert trio.current_time() == began_s


async def test_a_locked_one_holds_up_no_mount_and_goes_on_when_unlocked(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring("pass", locked=True)
    began_s = trio.current_time()
    async with begun(keyring) as (_, account):
        assert trio.current_time() == began_s
        state = account.connectivity
        assert (state.state.value, state.reason) == ("waiting for the keyring", "the keyring is locked")
        assert state.since is not None
        await trio.sleep(3600)
        with pytest.raises(Unreachable):
            state.check_login()
        assert keyring.reads <= 3600 / 2 + 2, "nobody looks in a hurry"
        assert (account.passwords, account.greeted, keyring.prompts) == ([], 0, 0)
        keyring.locked = False
        await trio.sleep(2.5)
        assert (account.passwords, account.greeted, account.returned) == (["pass"], 1, 1)
        assert state.state is not State.NO_KEYRING


async def test_one_that_is_not_there_yet_is_waited_for(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring("pass", there=False)
    async with begun(keyring, may_prompt=True) as (_, account):
        await trio.sleep(60)
        assert account.connectivity.state is State.NO_KEYRING
        assert keyring.prompts == 0, "there is nothing to unlock"
        keyring.there = True
        await trio.sleep(5.5)
        assert account.passwords == ["pass"]


async def test_one_that_never_answers_holds_up_the_mount_for_two_seconds(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring("pass")
    keyring.answers = trio.Event()
    began_s = trio.current_time()
    async with begun(keyring) as (_, account):
        assert trio.current_time() - began_s == pytest.approx(2)
        assert (account.connectivity.state, account.connectivity.reason) == (
            State.NO_KEYRING,
            "it has not answered yet",
        )
        await trio.sleep(30)
        assert keyring.reads == 1, "a person may just be asked"
        keyring.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        assert account.passwords == ["pass"]


async def test_a_person_is_asked_once(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring("pass", locked=True)
    async with begun(keyring, may_prompt=True) as (_, account):
        await trio.sleep(600)
        assert keyring.prompts == 1
        keyring.answered.set()
        await trio.sleep(2.5)
        assert account.passwords == ["pass"]
        assert keyring.prompts == 1


async def test_unlocked_otherwise_while_a_person_is_asked(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring("pass", locked=True)
    async with begun(keyring, may_prompt=True) as (_, account):
        await trio.sleep(10)
        keyring.locked = False
        await trio.sleep(2.5)
        assert account.passwords == ["pass"]


async def test_a_missing_password_waits_for_a_login(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring()
    async with begun(keyring) as (_, account):
        state = account.connectivity
        assert (state.state, state.reason) == (
            State.NEEDS_LOGIN,
            "the keyring has no password for this account",
        )
        with pytest.raises(NotAuthenticated, match=r"no password for this account; log in again"):
            state.check_login()
        keyring.secret = "pass"
        await trio.sleep(5.5)
        assert (account.passwords, account.greeted) == (["pass"], 1)


async def test_unlocked_and_nothing_in_it(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring(locked=True)
    async with begun(keyring) as (_, account):
        keyring.locked = False
        await trio.sleep(2.5)
        assert account.connectivity.state is State.NEEDS_LOGIN


async def test_whoever_asks_for_another_try_sends_no_request_without_a_password(
    autojump_clock: MockClock,
) -> None:
    for keyring, error in ((MemoryKeyring(locked=True), Unreachable), (MemoryKeyring(), NotAuthenticated)):
        async with begun(keyring) as (_, account):
            account.connectivity.try_now()
            with pytest.raises(error):
                account.connectivity.check_login()
            assert account.connectivity.next_try == float("inf")


async def test_a_new_login_while_it_is_waited_for_is_used_at_once(autojump_clock: MockClock) -> None:
    keyring = MemoryKeyring(locked=True)
    async with begun(keyring) as (login, account):
        with pytest.raises(UserError, match="The keyring is locked"):
            await login.reread()
        assert account.connectivity.state is State.NO_KEYRING
        keyring.secret, keyring.locked = "new", False
        assert await login.reread()
        assert account.passwords == ["new"]


async def test_a_refused_password_in_a_keyring_is_read_again_after_a_new_login_only(
    autojump_clock: MockClock,
) -> None:
    """KeePassXC asks a person each time."""
    keyring, stamps = MemoryKeyring("old"), [0]
    login = Login(lambda: keyring, lambda: stamps[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.run)
        await login.begin()
        account = Account(login)
        account.connectivity.refused()
        await trio.sleep(600)
        assert keyring.reads == 1
        keyring.secret, stamps[0] = "new", 1
        await trio.sleep(5.5)
        assert account.passwords == ["old", "new"]
        account.connectivity.refused()
        keyring.secret = "newer"
        await login.reread_if_refused(asked=True)
        assert account.passwords == ["old", "new", "newer"]
        nursery.cancel_scope.cancel()


async def test_what_only_a_person_can_mend_is_an_error_at_the_start(autojump_clock: MockClock) -> None:
    class Broken(MemoryKeyring):
        async def read(self) -> str:
            raise UserError("The password file is damaged.")

    login = Login(Broken, lambda: 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.run)
        with pytest.raises(UserError, match="damaged"):
            await login.begin()
        nursery.cancel_scope.cancel()
